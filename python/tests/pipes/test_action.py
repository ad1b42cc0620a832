"""The button as a Function, loaded and called as Open WebUI 0.6.43 and 0.12.4 do."""

import inspect
import sys
import types
import uuid
from typing import Any

import pytest
from stage import Emitter, Stage

LINES = {
    "renamed": "from openwebui_token_tracking.actions import CreditBalance as Action",
    "assigned": "from openwebui_token_tracking.actions import CreditBalance\n\nAction = CreditBalance",
    "of its module": "from openwebui_token_tracking.actions.credit_balance import CreditBalance\nAction = CreditBalance",
    "derived": "from openwebui_token_tracking.actions import CreditBalance\n\nclass Action(CreditBalance):\n    pass",
}


def loaded(content: str) -> Any:
    """The object of a Function: its text is executed in a module that is forgotten at once."""
    name = f"function_credits_{uuid.uuid4().hex}"
    module = types.ModuleType(name)
    sys.modules[name] = module
    try:
        exec(content, module.__dict__)
    finally:
        del sys.modules[name]
    assert not hasattr(module, "Pipe") and not hasattr(module, "Filter")
    return module.Action()


async def pressed(function: Any, user: dict[str, Any], stored: dict[str, Any] | None) -> list[str]:
    """The lines that a press shows, with the valves that are stored."""
    assert function.Valves.model_json_schema()["type"] == "object", "the page of its valves opens"
    function.valves = function.Valves(**(stored if stored else {}))
    given = {
        "body": {"model": "openai.gpt-test", "messages": []},
        "__model__": {"id": "openai.gpt-test"},
        "__id__": "credits",
        "__event_emitter__": Emitter(),
        "__event_call__": None,
        "__request__": None,
        "__user__": user,
    }
    wanted = inspect.signature(function.action).parameters
    assert inspect.iscoroutinefunction(function.action)
    emitter: Any = given["__event_emitter__"]
    assert await function.action(**{name: value for name, value in given.items() if name in wanted}) == given["body"]
    return [str(line) for line in emitter.lines]


@pytest.mark.parametrize("stored", [None, {}, {"priority": 0}], ids=["never set", "empty", "of another version"])
@pytest.mark.parametrize("line", LINES)
async def test_one_line_is_a_function(stage: Stage, line: str, stored: dict[str, Any] | None) -> None:
    user = stage.new_user()
    (shown,) = await pressed(loaded(LINES[line]), user, stored)
    assert shown.startswith("Credits today: 1,000 of 1,000 left")
