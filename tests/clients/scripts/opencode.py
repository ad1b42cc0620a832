"""opencode, with the packages of the AI SDK for compatible servers, for OpenAI and for Anthropic."""

import json

from cells import MODEL, OPENAI, ROUTE, Task, run
from commands import HOME, command_of, shown

PACKAGES = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai", "messages": "@ai-sdk/anthropic"}


def opencode(task: Task, ask: str) -> str:
    options = {"baseURL": OPENAI, "apiKey": task.key}
    gateway = {"npm": PACKAGES[ROUTE], "name": "Gateway", "options": options, "models": {MODEL: {}}}
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"gateway/{MODEL}",
        "provider": {"gateway": gateway},
    }
    place = HOME / ".config/opencode"
    place.mkdir(parents=True, exist_ok=True)
    (place / "opencode.json").write_text(json.dumps(config))
    return shown("opencode", "run", ask, NO_COLOR="1", TERM="dumb")


def plain(task: Task) -> str:
    return opencode(task, task.ask)


def tools(task: Task) -> str:
    return opencode(task, command_of(task, "bash", "command", description="Says it"))


run(plain=plain, tools=tools)
