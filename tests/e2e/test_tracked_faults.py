"""What version 0.1 of this package got wrong in Open WebUI, each with a test of its own.

| situation | test |
|---|---|
| stop button | `test_tracked_ends.py` |
| 20 parallel chats, balance for one; "database is locked" | `test_tracked_limits.py`, `test_tracked_workers.py` |
| 20 slow streams; a hung provider | `test_tracked_load.py`; here |
| provider 429 or 500 shown as the answer | here |
| provider dies mid-stream, charged 0 | here |
| no usage in a whole answer | here |
| Anthropic's cache, Google's thinking, Mistral's streamed tool call, Anthropic's thinking in a whole answer | here |
| tools with Anthropic, Google, Mistral dropped | `test_tracked_answers.py` |
| a price is doubled, or deleted | here |
| sponsored: total limit, no daily limit, models not checked | `test_tracked_sponsored.py` |
| no free model in the table | here |
| "resets in" a minute too long | here |
| slow checks with a long log | `benches/`: they stay as fast as with an empty one |
| does not start on PostgreSQL | every test, on both databases |
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from account import error_text
from early import early_zone
from gateway import cost
from tab import open_tab
from tracked import ANTHROPIC, ASK, FREE, GOOGLE, MISTRAL, MODEL, ONE, OPENAI, VENDORS, Tracked, Vendor
from upstream import mark
from waiting import until

TEXT = "The answer to this question is simple enough to be given."
each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.provider)
# With one of them in the small set.
first_vendor = pytest.mark.parametrize(
    "vendor", [pytest.param(one, marks=pytest.mark.smoke if one is OPENAI else [], id=one.provider) for one in VENDORS]
)


@pytest.mark.parametrize("status", [429, 500])
@first_vendor
def test_a_provider_that_answers_429_or_500_is_an_error(tracked: Tracked, vendor: Vendor, status: int) -> None:
    """In the browser and to API clients; without its JSON, its address or a key, without tasks after it, for nothing."""
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(vendor.named, f"[[sim status={status}]]")
        message = turn.wait()
        shown = error_text(message["error"])
        assert not message.get("content")
        answer = tab.account.ask(vendor.named, f"[[sim status={status}]]", stream=True)
        for said in (shown, answer.error):
            assert said and "{" not in said and "sk-simulated" not in said and "127.0.0.1" not in said
    assert tracked.ledger(tab.account.id) == []


@first_vendor
def test_a_provider_that_dies_mid_stream_is_charged_for_what_it_said(tracked: Tracked, vendor: Vendor) -> None:
    """The text stays, with the error below it."""
    with open_tab(tracked.open_webui.add_user()) as tab:
        asked = "[[sim input=1000 output=500 fault=disconnect at=250 delay=2]]"
        message = tab.ask(vendor.named, asked, background={}).wait()
        (row,) = tracked.rows(tab.account.id)
    assert message["content"].startswith(TEXT) and error_text(message["error"])
    assert row["outcome"] != "complete" and row["estimated"]
    assert abs(row["output_tokens"] - 250) <= 25


@each_vendor
def test_a_whole_answer_without_usage_is_kept_and_counted(tracked: Tracked, vendor: Vendor) -> None:
    user = tracked.open_webui.add_user()
    answer = user.ask(vendor.named, "[[sim fault=nousage]]")
    assert (answer.error, answer.text) == ("", TEXT)
    (row,) = tracked.ledger(user.id)
    assert row["estimated"] and row["input_tokens"] > 0 and abs(row["output_tokens"] - 12) <= 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropics_cached_input_is_charged(tracked: Tracked, stream: bool) -> None:
    user = tracked.open_webui.add_user()
    asked = "[[sim input=1000 cached=800 cache_write=100 output=10]]"
    assert not user.ask(ANTHROPIC.named, asked, stream=stream).error
    (row,) = tracked.ledger(user.id)
    assert (row["input_tokens"], row["cached_input_tokens"], row["cache_write_tokens"]) == (1000, 800, 100)
    assert tracked.spent(user.id) == cost("gpt-test", 1000, 10)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_googles_thinking_is_charged(tracked: Tracked, stream: bool) -> None:
    user = tracked.open_webui.add_user()
    assert not user.ask(GOOGLE.named, "[[sim input=10 output=500 reasoning=300]]", stream=stream).error
    (row,) = tracked.ledger(user.id)
    assert (row["output_tokens"], row["reasoning_tokens"]) == (500, 300)
    assert tracked.spent(user.id) == cost("gpt-test", 10, 500)


def test_a_tool_call_that_mistral_streams_is_charged(tracked: Tracked) -> None:
    user = tracked.open_webui.add_user()
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "description": "It", "parameters": parameters}}
    assert not user.ask(MISTRAL.named, "[[sim tool=1 input=100 output=20]]", stream=True, tools=[tool]).error
    assert tracked.spent(user.id) == cost("gpt-test", 100, 20)


def test_anthropics_thinking_in_a_whole_answer(tracked: Tracked) -> None:
    user = tracked.open_webui.add_user()
    answer = user.ask(ANTHROPIC.named, "[[sim thinking=5 input=100 output=17]]", reasoning_effort="medium")
    assert (answer.error, answer.text) == ("", TEXT)
    assert answer.chunks[0]["choices"][0]["message"]["reasoning_content"] == "Let me think about it"
    assert tracked.spent(user.id) == cost("gpt-test", 100, 17)


def test_a_hung_provider_disturbs_nobody(tracked: Tracked) -> None:
    server, marked = tracked.open_webui, mark()
    with open_tab(server.add_user()) as tab:
        hung = [tab.ask(MODEL, f"{marked} [[sim fault=hang]]", background={}) for _ in range(8)]
        until(lambda: len(tracked.upstream.received(marked)) == 8, "eight requests hang")
        user = server.add_user()
        assert not user.ask(MODEL, ASK, stream=True).error
        for turn in hung:
            turn.stop()
    tracked.rows(tab.account.id, 8)


def test_changed_and_deleted_prices_leave_charges_as_they_are(tracked: Tracked) -> None:
    admin, model, named = tracked.open_webui.admin, "passing-test", "openai.passing-test"
    price = ("--provider", "openai", "--id", model, "--name", model, "--output-cost-credits", "15000")
    tracked.run("pricing", "add", *price, "--input-cost-credits", "3000")

    def asked() -> bool:
        return named in tracked.open_webui.models() and not admin.ask(named, ASK).error

    until(asked, "the new model answers")
    before = tracked.spent(admin.id)
    tracked.run("pricing", "update", model, "--provider", "openai", "--input-cost-credits", "6000")
    assert tracked.spent(admin.id) == before
    tracked.run("pricing", "delete", model, "-y")
    assert tracked.spent(admin.id) == before >= ONE
    refused = until(lambda: admin.ask(named, ASK).error, "the model without a price is refused")
    assert "price" in refused or "not found" in refused.lower()


@contextmanager
def without_free_models(tracked: Tracked) -> Iterator[None]:
    tracked.run("pricing", "delete", "free-test", "-y")
    try:
        yield
    finally:
        tracked.init()
        until(lambda: FREE in tracked.open_webui.models(), "there is a free model again")


def without(said: str, word: str) -> str | None:
    return None if word in said else said


def test_the_limit_is_said_also_without_a_free_model(tracked: Tracked) -> None:
    user = tracked.open_webui.add_user()
    assert not user.ask(MODEL, "[[sim input=400000 output=0]]").error
    with without_free_models(tracked):
        # Prices count as soon as they are read again.
        refused = until(lambda: without(user.ask(MODEL, ASK).error, "free-test"), "no model is free")
    assert "Your daily credit limit is reached: 1200 of 1000 credits are spent." in refused
    assert "free" not in refused
    assert tracked.spent(user.id) == 1200


def test_the_balance_button_says_exactly_when_it_is_reset(tracked: Tracked) -> None:
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(MODEL, ASK, background={})
        turn.wait()
        pressed: dict[str, Any] = {"model": MODEL, "messages": [], "chat_id": turn.chat, "id": turn.answer}
        tab.account.post("/api/chat/actions/credit_balance", {**pressed, "session_id": tab.socket.get_sid()})
        line = tab.account.message(turn.chat, turn.answer)["statusHistory"][-1]["description"]
    found = re.search(r"reset at (\S+ \S+) \S+, in (?:(\d+) h )?(\d+) min", line)
    assert found, line
    at = datetime.fromisoformat(found[1]).replace(tzinfo=ZoneInfo(early_zone()))
    told = timedelta(hours=int(found[2] or 0), minutes=int(found[3]))
    assert timedelta(0) <= told - (at - datetime.now(timezone.utc)) < timedelta(minutes=1, seconds=5)
