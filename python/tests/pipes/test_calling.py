"""Which model a call is for, and which workspace model its chat uses."""

import pytest
from stage import metadata, recorded

from openwebui_token_tracking.pipes.calling import Call

BASE = "openai.gpt-test"
THIN = "course---gpt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pipe_base_browser", None),
        ("pipe_base_api_stream", None),
        ("pipe_thin_browser", "dept---dump"),
        ("pipe_thin_api_stream", "dept---dump"),
        ("pipe_task_title_generation", None),
        ("pipe_task_title_generation_thin", "dept---dump"),
    ],
)
def test_of_recorded_calls(name: str, expected: str | None) -> None:
    call = recorded(name)
    arguments = (call["__user__"], call["__metadata__"], call["__task__"], call["__task_body__"])
    read = Call.read("dump", call["body"], *arguments)
    assert (read.model_id, read.workspace_model) == ("one", expected)


@pytest.mark.parametrize(
    ("first", "this", "expected"),
    [(BASE, THIN, THIN), (THIN, BASE, None), (THIN, "other---gpt", "other---gpt"), (THIN, THIN, THIN), (BASE, BASE, None)],
)
def test_side_by_side(first: str, this: str, expected: str | None) -> None:
    """Open WebUI describes the first model to both; only `model_id` is of this one."""
    said = {**metadata(BASE, THIN if first == THIN else None), "model_id": this}
    assert Call.read("openai", {"model": BASE}, {"id": "ann"}, said).workspace_model == expected
