"""opencode, with the packages of the AI SDK for compatible servers, for OpenAI and for Anthropic."""

import json
import os

from cells import MODELS, OPENAI, ROUTE, Task, run
from commands import HOME, command_of, shown

PACKAGES = {
    "chat": ("@ai-sdk/openai-compatible", MODELS["chat"]),
    "responses": ("@ai-sdk/openai", MODELS["responses"]),
    "messages": ("@ai-sdk/anthropic", MODELS["claude"]),
}


def opencode(task: Task, ask: str) -> str:
    package, model = PACKAGES[ROUTE]
    options = {"baseURL": OPENAI, "apiKey": task.key}
    gateway = {"npm": package, "name": "Gateway", "options": options, "models": {model: {}}}
    config = {"$schema": "https://opencode.ai/config.json", "model": f"gateway/{model}", "provider": {"gateway": gateway}}
    place = HOME / ".config/opencode"
    place.mkdir(parents=True, exist_ok=True)
    (place / "opencode.json").write_text(json.dumps(config))
    return shown("opencode", "run", ask, NO_COLOR="1", TERM="dumb", PATH=os.environ["PATH"])


def plain(task: Task) -> str:
    return opencode(task, task.ask)


def tools(task: Task) -> str:
    return opencode(task, command_of(task, "bash", "command", description="Says it"))


run(plain=plain, tools=tools)
