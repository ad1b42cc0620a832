"""What the tracked pipes answer in a real Open WebUI: over the API and in the browser's way, and that it is charged."""

from decimal import Decimal

import pytest

from gateway import cost
from open_webui import OpenWebUI
from tab import open_tab
from tracked import ANTHROPIC, ASK, FREE, GOOGLE, MICRO, MODEL, ONE, OPENAI, VENDORS, Tracked, Vendor
from upstream import mark

TEXT = "The answer to this question is simple enough to be given."
TASKS = {"title_generation", "tags_generation", "follow_up_generation"}
# One red pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="

each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.provider)
each_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.mark.smoke
@each_vendor
@each_way
def test_the_api_is_answered_and_charged_exactly(tracked: Tracked, vendor: Vendor, stream: bool) -> None:
    user = tracked.open_webui.add_user()
    answer = user.ask(vendor.named, "[[sim input=1001 output=12]]", stream=stream)
    assert not answer.error and answer.text == TEXT
    assert answer.usage is not None
    assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (1001, 12)
    charged = cost("gpt-test", 1001, 12)
    assert Decimal(str(answer.usage["credits"])) == charged
    assert Decimal(str(answer.usage["credits_remaining"])) == 1000 - charged
    assert tracked.spent(user.id) == charged
    (row,) = tracked.ledger(user.id)
    assert (row["provider"], row["model"], row["estimated"], row["task"]) == (vendor.provider, vendor.model, None, None)
    assert Decimal(row["charge"]) / MICRO == charged


@pytest.mark.smoke
@each_vendor
def test_a_chat_shows_its_credits(tracked: Tracked, vendor: Vendor) -> None:
    """In the info bubble, which shows the message's usage, and in the line of its status."""
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(vendor.named, "[[sim input=1001 output=12]]", background={})
        message = turn.wait()
        (row,) = tracked.rows(tab.account.id)
    assert message["content"] == TEXT and "error" not in message
    charged = Decimal(row["charge"]) / MICRO
    assert charged == cost("gpt-test", 1001, 12) == Decimal(str(message["usage"]["credits"]))
    assert (message["usage"]["prompt_tokens"], message["usage"]["completion_tokens"]) == (1001, 12)
    (line,) = [status["description"] for status in message["statusHistory"]]
    assert line.startswith("3.18 credits used, 996.82 left until 20")
    assert (row["chat_id"], row["message_id"]) == (turn.chat, turn.answer)


@each_vendor
def test_open_webuis_own_tools_are_called(tracked: Tracked, vendor: Vendor) -> None:
    """It sends its 22 tools, runs the one that is called, and asks again with what came of it."""
    marked = mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        message = tab.ask(vendor.named, f"{marked} [[sim tool=1 input=500 output=20]]", background={}).wait()
        first, second = tracked.rows(tab.account.id, 2)
    assert "error" not in message and TEXT in message["content"]
    calls = [item for item in message["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == ["get_current_timestamp"]
    assert (first["input_tokens"], first["output_tokens"]) == (500, 20)
    assert second["output_tokens"] == 12
    asked, again = tracked.upstream.received(marked)
    tools = str(asked["body"]["tools"])
    assert "get_current_timestamp" in tools and tools.count("description") >= 22
    assert "current_timestamp" in str(again["body"])


@each_vendor
@each_way
def test_tools_of_an_api_client_are_called(tracked: Tracked, vendor: Vendor, stream: bool) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "description": "It", "parameters": parameters}}
    user = tracked.open_webui.add_user()
    answer = user.ask(vendor.named, "[[sim tool=1 input=50 output=10]]", stream=stream, tools=[tool])
    assert not answer.error
    choices = [choice for chunk in answer.chunks for choice in chunk.get("choices", [])]
    parts = [choice["delta" if stream else "message"] for choice in choices]
    calls = [call["function"] for part in parts for call in part.get("tool_calls") or []]
    assert "".join(call.get("name") or "" for call in calls) == "get_weather"
    assert "".join(call.get("arguments") or "" for call in calls).replace(" ", "") == '{"city":"Bern"}'
    assert tracked.spent(user.id) == cost("gpt-test", 50, 10)


@each_vendor
def test_an_image_reaches_the_model(tracked: Tracked, vendor: Vendor) -> None:
    marked, user = mark(), tracked.open_webui.add_user()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": f"{marked} [[sim text=Red]]"}, picture]
    answer = user.ask(vendor.named, "", messages=[{"role": "user", "content": content}])
    assert (answer.error, answer.text) == ("", "Red")
    assert PIXEL in str(tracked.upstream.only(marked)["body"])
    assert len(tracked.ledger(user.id)) == 1


@each_vendor
def test_thinking_is_shown_and_charged(tracked: Tracked, vendor: Vendor) -> None:
    with open_tab(tracked.open_webui.add_user()) as tab:
        asked = "[[sim thinking=5 input=100 output=17]]"
        message = tab.ask(vendor.named, asked, background={}, params={"reasoning_effort": "medium"}).wait()
        (row,) = tracked.rows(tab.account.id)
    thoughts = [item for item in message["output"] if item["type"] == "reasoning"]
    assert "Let me think about it" in str(thoughts)
    assert message["content"].endswith(TEXT) and "error" not in message
    assert (row["input_tokens"], row["output_tokens"]) == (100, 17)


@pytest.mark.smoke
def test_a_chat_is_charged_with_its_tasks_and_they_are_labelled(tracked: Tracked) -> None:
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(MODEL, ASK)
        turn.wait()
        rows = tracked.rows(tab.account.id, 4)
    by_task = {row["task"]: row for row in rows}
    assert by_task.keys() == {None, *TASKS}
    assert {row["chat_id"] for row in rows} == {turn.chat}
    assert by_task[None]["message_id"] == turn.answer
    assert {row["workspace_model"] for row in rows} <= {None, MODEL}
    assert tracked.spent(tab.account.id) == 4 * ONE


def test_a_task_model_that_is_set_is_honoured(tracked: Tracked) -> None:
    server = tracked.open_webui
    server.set_tasks(TASK_MODEL_EXTERNAL=FREE)
    try:
        with open_tab(server.add_user()) as tab:
            tab.ask(MODEL, ASK).wait()
            rows = tracked.rows(tab.account.id, 4)
    finally:
        server.set_tasks(TASK_MODEL_EXTERNAL="")
    assert {row["task"]: row["model"] for row in rows} == {None: "gpt-test", **dict.fromkeys(TASKS, "free-test")}
    assert tracked.spent(tab.account.id) == ONE


@pytest.mark.smoke
@pytest.mark.parametrize(
    "models",
    [[(OPENAI, "gpt-test"), (OPENAI, "gpt-other-test")], [(ANTHROPIC, ANTHROPIC.model), (GOOGLE, GOOGLE.model)]],
    ids=["of one provider", "of two providers"],
)
def test_two_models_side_by_side_are_each_charged_as_itself(tracked: Tracked, models: list[tuple[Vendor, str]]) -> None:
    marked = mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        named = [f"{vendor.provider}.{model}" for vendor, model in models]
        turn = tab.ask(named, f"{marked} {ASK}", background={})
        messages = [tab.account.finished_message(turn.chat, answer) for answer in turn.answers]
        rows = tracked.rows(tab.account.id, 2)
    assert [message["model"] for message in messages] == named
    assert all(message["content"] and "error" not in message for message in messages)
    charged = {row["message_id"]: (row["provider"], row["model"]) for row in rows}
    assert charged == dict(zip(turn.answers, [(vendor.provider, model) for vendor, model in models], strict=True))
    assert tracked.spent(tab.account.id) == 2 * ONE
    asked = [f"{one['path']} {one['body'].get('model')}" for one in tracked.upstream.received(marked)]
    for _, model in models:
        assert len([one for one in asked if model in one]) == 1


def test_a_changed_valve_counts_at_once(tracked: Tracked) -> None:
    server, user = tracked.open_webui, tracked.open_webui.add_user()
    valves = server.admin.get("/api/v1/functions/id/openai/valves")
    server.set_valves("openai", {**valves, "API_BASE_URL": "http://127.0.0.1:9/v1"})
    try:
        assert user.ask(MODEL, ASK).error
    finally:
        server.set_valves("openai", valves)
    assert not user.ask(MODEL, ASK).error
    assert tracked.spent(user.id) == ONE


@pytest.mark.smoke
def test_the_balance_button_says_what_is_left(tracked: Tracked) -> None:
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(MODEL, ASK, background={})
        turn.wait()
        pressed = {
            "model": MODEL,
            "messages": [],
            "chat_id": turn.chat,
            "id": turn.answer,
            "session_id": tab.socket.get_sid(),
        }
        tab.account.post("/api/chat/actions/credit_balance", pressed)
        message = tab.account.message(turn.chat, turn.answer)
    last = message["statusHistory"][-1]["description"]
    assert last.startswith("Credits today: 995.5 of 1,000 left (reset at 20")
