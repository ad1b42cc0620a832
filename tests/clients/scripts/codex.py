"""Codex."""

import json

from cells import MODEL, OPENAI, SCHEMA, Task, run
from commands import HOME, command_of, shown

# The last two keep it from the internet.
CONFIG = """
model = "{model}"
model_provider = "gateway"
check_for_update_on_startup = false

[model_providers.gateway]
name = "Gateway"
base_url = "{base_url}"
env_key = "GATEWAY_KEY"
wire_api = "responses"

[analytics]
enabled = false

[features]
plugins = false
"""


def codex(task: Task, ask: str, *options: str) -> str:
    place = HOME / ".codex"
    place.mkdir(exist_ok=True)
    (place / "config.toml").write_text(CONFIG.format(model=MODEL, base_url=OPENAI))
    options = ("exec", "--skip-git-repo-check", "--sandbox", "workspace-write", *options)
    return shown("codex", *options, ask, GATEWAY_KEY=task.key)


def plain(task: Task) -> str:
    return codex(task, task.ask)


def tools(task: Task) -> str:
    return codex(task, command_of(task, "exec_command", "cmd"))


def structured(task: Task) -> str:
    schema = HOME / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    return json.loads(codex(task, task.ask, "--output-schema", str(schema)))["city"]


run(plain=plain, tools=tools, structured=structured)
