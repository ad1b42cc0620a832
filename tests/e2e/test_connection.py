"""Our gateway as an ordinary connection of Open WebUI: who is charged, how much, as what, and what a refused user sees."""

from decimal import Decimal

import httpx
import pytest

from gateway import KEY, SHARED, Gateway, cost
from open_webui import OpenWebUI
from tab import open_tab
from waiting import until

pytestmark = pytest.mark.smoke
ASK = "[[sim input=1000 output=100]]"
ONE = cost("gpt-test", 1000, 100)
TASKS = {"title_generation", "tags_generation", "follow_up_generation"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_of_the_api_is_charged_exactly(open_webui: OpenWebUI, gateway: Gateway, stream: bool) -> None:
    user = open_webui.add_user()
    answer = user.ask("gpt-test", ASK, stream=stream)
    assert not answer.error and answer.text
    assert answer.usage is not None
    assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (1000, 100)
    assert Decimal(str(answer.usage["credits"])) == ONE
    assert gateway.spent(user.id) == ONE
    (row,) = gateway.ledger(user.id)
    assert row["task"] is None


def test_a_chat_is_charged_with_its_tasks_and_they_are_labelled(open_webui: OpenWebUI, gateway: Gateway) -> None:
    user = open_webui.add_user()
    with open_tab(user) as tab:
        turn = tab.ask("gpt-test", ASK)
        message = turn.wait()
        rows = until(lambda: rows if len(rows := gateway.ledger(user.id)) == 4 else None, "four calls are charged")
    assert message["content"] and "error" not in message
    assert message["usage"]["completion_tokens"] == 100
    by_task = {row["task"]: row for row in rows}
    assert by_task.keys() == {None, *TASKS}
    chat = by_task[None]
    assert (chat["workspace_model"], chat["message_id"]) == ("gpt-test", turn.answer)
    assert {row["chat_id"] for row in rows} == {turn.chat}
    assert {row["estimated"] for row in rows} == {None}
    assert gateway.spent(user.id) == 4 * ONE


def test_a_workspace_model_is_in_the_ledger(open_webui: OpenWebUI, gateway: Gateway) -> None:
    open_webui.add_model("course-gpt", base="gpt-test")
    user = open_webui.add_user()
    answer = user.ask("course-gpt", ASK)
    assert not answer.error
    (row,) = gateway.ledger(user.id)
    assert (row["model"], row["workspace_model"]) == ("gpt-test", "course-gpt")


def test_over_the_limit_the_user_sees_why(open_webui: OpenWebUI, gateway: Gateway) -> None:
    user = open_webui.add_user()
    # 1200 credits, where a user has 1000.
    assert not user.ask("gpt-test", "[[sim input=400000 output=0]]").error
    refused = user.ask("gpt-test", ASK)
    assert refused.status == 402
    assert "Your daily credit limit is reached: 1200 of 1000 credits are spent." in refused.error
    with open_tab(user) as tab:
        turn = tab.ask("gpt-test", ASK)
        message = turn.wait()
    assert "Your daily credit limit is reached" in message["error"]["content"]
    assert [data["error"]["content"] for data in turn.of("chat:message:error")] == [message["error"]["content"]]
    assert "free-test" in message["error"]["content"]
    assert gateway.spent(user.id) == 1200
    assert not user.ask("free-test", ASK).error


def test_what_the_stop_button_ends_is_charged(open_webui: OpenWebUI, gateway: Gateway) -> None:
    user = open_webui.add_user()
    with open_tab(user) as tab:
        turn = tab.ask("gpt-test", "[[sim input=1000 output=2000 delay=20]]", background={})
        turn.began()
        turn.stop()
        (row,) = until(lambda: gateway.ledger(user.id), "the stopped chat is charged")
    assert row["estimated"] and 0 < row["output_tokens"] < 2000
    assert gateway.spent(user.id) == Decimal(row["charge"]) / 1_000_000 > 0


def test_an_unsigned_identity_is_refused(open_webui: OpenWebUI, gateway: Gateway) -> None:
    user = open_webui.add_user()
    answer = httpx.post(
        f"{gateway.url}/chat/completions",
        headers={"Authorization": f"Bearer {KEY}", "X-OpenWebUI-User-Id": user.id},
        json={"model": "gpt-test", "messages": [{"role": "user", "content": ASK}]},
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "identity_not_signed"
    assert gateway.ledger(user.id) == []


def test_users_see_only_models_they_were_given(open_webui: OpenWebUI, gateway: Gateway) -> None:
    assert {*SHARED, "embedding-test"} <= set(open_webui.models())
    seen = open_webui.add_user().models()
    assert set(SHARED) <= set(seen) and "embedding-test" not in seen
