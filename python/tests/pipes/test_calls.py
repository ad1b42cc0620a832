"""What is read out of Open WebUI's calls: recorded ones, and the forms of earlier versions."""

import json
from enum import StrEnum
from typing import Any

import pytest
from stage import CALLS, OPENAI, Stage, body, metadata, read, recorded, usage

from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes.calling import Call, plain


def call(name: str) -> Call:
    arguments = recorded(name)
    return Call.read("dump", *arguments.values())


@pytest.mark.parametrize("name", ["pipe_base_api_stream", "pipe_base_browser"])
def test_a_base_model(name: str) -> None:
    found = call(name)
    assert (found.model_id, found.workspace_model, found.task) == ("one", None, None)
    assert found.sponsored_allowance_name is None
    assert found.user["email"] == "user1@example.com"


@pytest.mark.parametrize("name", ["pipe_thin_api_stream", "pipe_thin_browser"])
def test_a_workspace_model(name: str) -> None:
    found = call(name)
    assert (found.model_id, found.workspace_model, found.task) == ("one", "dept---dump", None)
    assert found.sponsored_allowance_name == "dept"


@pytest.mark.parametrize("task", ["title_generation", "follow_up_generation", "tags_generation"])
def test_tasks_belong_to_their_chat(task: str) -> None:
    base, thin = call(f"pipe_task_{task}"), call(f"pipe_task_{task}_thin")
    assert (base.task, base.model_id, base.workspace_model) == (task, "one", None)
    assert (thin.task, thin.model_id, thin.workspace_model) == (task, "one", "dept---dump")
    assert base.chat_id and thin.chat_id and thin.message_id is None


def test_chats_in_the_browser_name_chat_and_message() -> None:
    found = call("pipe_base_browser")
    assert found.chat_id and found.message_id
    assert call("pipe_base_api_stream").chat_id is None


def read_call(asked: str, said: dict[str, Any], task: Any = None, task_body: Any = None) -> Call:
    return Call.read("openai", {"model": asked}, {"id": "ann"}, said, task, task_body)


def test_of_two_models_side_by_side_each_is_its_own() -> None:
    """Open WebUI describes the first model in both calls; `model_id` is each one's own."""
    first = metadata("openai.gpt-a", "dept---a")
    assert read_call("openai.gpt-a", first).workspace_model == "dept---a"
    second = read_call("openai.gpt-b", {**first, "model_id": "openai.gpt-b"})
    assert (second.model_id, second.workspace_model) == ("gpt-b", None)
    third = read_call("openai.gpt-b", {**first, "model_id": "team---b"})
    assert (third.model_id, third.workspace_model) == ("gpt-b", "team---b")
    # From 0.9 to 0.11 nothing names the second one's workspace model.
    assert read_call("openai.gpt-b", {**first, "model_id": None}).workspace_model is None


@pytest.mark.parametrize(
    ("first", "this", "expected"),
    [
        ("openai.gpt-a", "dept---a", "dept---a"),
        ("dept---a", "openai.gpt-a", None),
        ("dept---a", "team---a", "team---a"),
        ("dept---a", "dept---a", "dept---a"),
        ("openai.gpt-a", "openai.gpt-a", None),
    ],
)
def test_of_two_models_on_one_base_each_is_its_own(first: str, this: str, expected: str | None) -> None:
    said = metadata("openai.gpt-a", first if "---" in first else None)
    assert read_call("openai.gpt-a", {**said, "model_id": this}).workspace_model == expected


def test_a_task_model_is_called_for_the_chats_workspace_model() -> None:
    said = metadata("openai.gpt-a", "dept---a")
    found = read_call("openai.gpt-small", said, "title_generation", {"model": "dept---a"})
    assert (found.model_id, found.workspace_model) == ("gpt-small", "dept---a")
    plain_chat = metadata("openai.gpt-a")
    assert (
        read_call("openai.gpt-small", plain_chat, "tags_generation", {"model": "openai.gpt-a"}).workspace_model is None
    )


@pytest.mark.parametrize("version", ["0.6", "0.8", "0.9", "0.11"])
def test_forms_of_earlier_versions(version: str) -> None:
    """Each version's keys, as its source makes them; what was read out of them must not change."""
    calls = json.loads((CALLS / "earlier" / f"{version}.json").read_text(encoding="utf-8"))
    for name, call in calls.items():
        found = Call.read("openai", *call["arguments"].values())
        read_out = (found.model_id, found.workspace_model, found.task, found.chat_id, found.message_id)
        assert read_out == tuple(call["read"]), name


class Task(StrEnum):
    TITLE = "title_generation"


def test_a_task_may_be_an_enumeration() -> None:
    assert read_call("openai.gpt-4.1", {"task": Task.TITLE}).task == "title_generation"


@pytest.mark.parametrize(
    ("said", "workspace"),
    [
        # The base model beside the id instead of in `info`.
        ({"model": {"id": "dept---a", "base_model_id": "openai.gpt-4.1"}}, "dept---a"),
        # A model that was never opened in the workspace has no `info`.
        ({"model": {"id": "openai.gpt-4.1", "pipe": {"type": "pipe"}}}, None),
        ({"chat_id": "c", "model": None}, None),
    ],
)
def test_models_are_described_in_several_ways(said: dict[str, Any], workspace: str | None) -> None:
    found = read_call("openai.gpt-4.1", said)
    assert (found.model_id, found.workspace_model) == ("gpt-4.1", workspace)


@pytest.mark.parametrize(
    ("asked", "from_open_webui", "model"),
    [
        ("openai.gpt-4.1", True, "gpt-4.1"),
        ("OpenAI.gpt-4.1", True, "gpt-4.1"),
        ("my_function.gpt-4.1", True, "gpt-4.1"),
        ("openai.gpt-4.1", False, "gpt-4.1"),
        ("gpt-4.1", False, "gpt-4.1"),
        ("meta.llama-3.1", False, "meta.llama-3.1"),
        ("gpt-5", True, "gpt-5"),
    ],
)
def test_the_functions_id_is_taken_off(asked: str, from_open_webui: bool, model: str) -> None:
    said = metadata(asked) if from_open_webui else {}
    assert read_call(asked, said).model_id == model


def test_without_user_or_model_nothing_is_asked() -> None:
    for user in (None, {}, {"name": "Ann"}):
        with pytest.raises(RequestError, match="who asks"):
            Call.read("openai", {"model": "openai.a"}, user, {})
    for model in ({}, {"model": None}, {"model": "openai."}):
        with pytest.raises(RequestError, match="no model"):
            Call.read("openai", model, {"id": "ann"}, {})


def test_headers_are_plain_ascii() -> None:
    user = {"id": "ann", "name": "Zoë 100% O'Neill", "email": "zoë@example.org"}
    headers = Call.read("openai", {"model": "openai.a"}, user, {"chat_id": "a\nb"}).headers()
    assert headers == {
        "X-OpenWebUI-User-Id": "ann",
        "X-OpenWebUI-User-Name": "Zo%C3%AB 100%25 O%27Neill",
        "X-OpenWebUI-User-Email": "zo%C3%AB@example.org",
        "X-OpenWebUI-Chat-Id": "a%0Ab",
    }
    assert plain("dept---a b") == "dept---a b" and plain("50%") == "50%25"


async def test_every_recorded_call_is_answered(stage: Stage) -> None:
    """As Open WebUI made it, apart from the names of the function and the user."""
    for path in sorted(CALLS.glob("*.json")):
        call, user = recorded(path.stem, "openai.gpt-test"), stage.new_user()
        # The list of tools was shortened by a remark.
        call["body"]["tools"] = [tool for tool in call["body"].get("tools", []) if "type" in tool]
        call["__user__"] = {**call["__user__"], **user}
        answer: Any = await OPENAI.made(stage.provider).pipe(*call.values())
        if call["body"]["stream"]:
            assert usage(await read(answer))["credits"] > 0
        else:
            assert answer["usage"]["credits"] > 0
        (row,) = stage.rows(user["id"])
        said = call["__metadata__"]
        assert row["task"] == call["__task__"] and row["chat_id"] == (said["chat_id"] or None)
        assert row["message_id"] == (said.get("message_id") or None)
        is_sponsored = "thin" in path.stem
        assert (row["sponsored_id"] is not None) == is_sponsored
        assert row["workspace_model"] == ("dept---dump" if is_sponsored else None)


async def test_a_name_that_is_not_ascii_arrives(stage: Stage) -> None:
    user = stage.new_user()
    await OPENAI.made(stage.provider).pipe(
        body("openai.gpt-test", stream=False), user, metadata("openai.gpt-test", chat_id="Zoë%")
    )
    assert [row["chat_id"] for row in stage.rows(user["id"])] == ["Zoë%"]
