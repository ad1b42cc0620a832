"""llm, with models of a compatible server."""

import json

from cells import MODEL, OPENAI, SCHEMA, Task, run
from commands import HOME, shown

CONFIG = """
- model_id: gateway
  model_name: {model}
  api_base: {base_url}
  api_key_name: gateway
  supports_tools: true
  supports_schema: true
"""
TOOL = '''
def weather(city: str) -> str:
    """Tells how the weather is in a city."""
    return f"It rains in {{city}}. {result}"
'''


def llm(task: Task, *options: str) -> str:
    place = HOME / "llm"
    place.mkdir(exist_ok=True)
    (place / "extra-openai-models.yaml").write_text(CONFIG.format(model=MODEL, base_url=OPENAI))
    (place / "keys.json").write_text(json.dumps({"gateway": task.key}))
    return shown("llm", "-m", "gateway", *options, task.ask, LLM_USER_PATH=str(place))


def plain(task: Task) -> str:
    return llm(task, "--no-stream")


def stream(task: Task) -> str:
    return llm(task)


def tools(task: Task) -> str:
    return llm(task, "--functions", TOOL.format(result=task.result))


def structured(task: Task) -> str:
    return json.loads(llm(task, "--schema", json.dumps(SCHEMA)))["city"]


run(plain=plain, stream=stream, tools=tools, structured=structured)
