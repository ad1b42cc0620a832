"""Claude Code, with its own choice of model."""

import json

from cells import ANTHROPIC, SCHEMA, Task, joined, run
from commands import command_of, shown


def claude(task: Task, ask: str, *options: str) -> str:
    place = {"ANTHROPIC_BASE_URL": ANTHROPIC, "ANTHROPIC_AUTH_TOKEN": task.key}
    return shown("claude", "-p", *options, "--", ask, **place)


def plain(task: Task) -> str:
    return claude(task, task.ask)


def stream(task: Task) -> str:
    options = ("--output-format", "stream-json", "--include-partial-messages", "--verbose")
    lines = [json.loads(line) for line in claude(task, task.ask, *options).splitlines()]
    events = [line["event"] for line in lines if line["type"] == "stream_event"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return joined([delta.get("text", "") for delta in deltas])


def tools(task: Task) -> str:
    return claude(task, command_of(task, "Bash", "command"), "--allowedTools", "Bash")


def structured(task: Task) -> str:
    options = ("--output-format", "json", "--json-schema", json.dumps(SCHEMA))
    ask = "Which city? [[call StructuredOutput: city=Bern end]]"
    return json.loads(claude(task, ask, *options))["structured_output"]["city"]


run(plain=plain, stream=stream, tools=tools, structured=structured)
