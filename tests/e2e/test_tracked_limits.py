"""Limits of the tracked pipes in a real Open WebUI: what a user sees, and many chats at a time with credits for one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from account import error_text
from gateway import cost
from tab import open_tab
from tracked import ASK, FREE, MODEL, OPENAI, VENDORS, Tracked, Vendor
from upstream import mark

# What it costs is a little more than what `poor` leaves.
DEAR = "[[sim input=1000 output=200 delay=2]]"
DEARS = cost("gpt-test", 1000, 200)
SPENT = cost("gpt-test", 331666, 0)


def asked_at_once(tracked: Tracked, count: int, finished: float = 180) -> None:
    """So many chats of one user at a time, with credits for one: one is answered, and all others are told why not."""
    marked, user = mark(), tracked.open_webui.add_user()
    assert not user.ask(MODEL, "[[sim input=331666 output=0]]").error
    with open_tab(user) as tab, ThreadPoolExecutor(count) as threads:
        turns = list(threads.map(lambda _: tab.ask(MODEL, f"{marked} {DEAR}", background={}), range(count)))
        messages = [user.finished_message(turn.chat, turn.answer, finished) for turn in turns]
    answered = [message for message in messages if "error" not in message]
    refused = [error_text(message["error"]) for message in messages if "error" in message]
    print(f"{count} at once: {len(answered)} answered; refused: {sorted(set(refused))}")
    assert len(answered) == 1 and len(refused) == count - 1
    assert all("limit is reached" in said or "busy" in said or "at a time" in said for said in refused), set(refused)
    # No charge is lost, and none is made for nothing.
    assert len(tracked.upstream.received(marked)) == 1
    assert len(tracked.ledger(user.id)) == 2
    assert tracked.spent(user.id) == SPENT + DEARS
    assert tracked.locked_out() == []


@pytest.mark.smoke
@pytest.mark.parametrize("count", [2, 10])
def test_parallel_chats_with_credits_for_one(tracked: Tracked, count: int) -> None:
    asked_at_once(tracked, count)


def test_fifty_at_once_with_credits_for_one(tracked: Tracked) -> None:
    """By fifty chats; on SQLite over the API, which saves none: without any tracking, Open WebUI by itself can't save so many
    new chats at once, because its own file stays locked."""
    if tracked.database.kind == "sqlite":
        requested_at_once(tracked, 50)
    else:
        asked_at_once(tracked, 50)


def requested_at_once(tracked: Tracked, count: int) -> None:
    marked, user = mark(), tracked.open_webui.add_user()
    assert not user.ask(MODEL, "[[sim input=331666 output=0]]").error
    with ThreadPoolExecutor(count) as threads:
        answers = list(threads.map(lambda _: user.ask(MODEL, f"{marked} {DEAR}", stream=True), range(count)))
    refused = [answer.error for answer in answers if answer.error]
    print(f"{count} at once: {count - len(refused)} answered; refused: {sorted(set(refused))}")
    assert len(refused) == count - 1 and all("limit is reached" in said or "at a time" in said for said in refused)
    assert len(tracked.upstream.received(marked)) == 1
    assert tracked.spent(user.id) == SPENT + DEARS
    assert tracked.locked_out() == []


@pytest.mark.parametrize(
    "vendor", [pytest.param(one, marks=pytest.mark.smoke if one is OPENAI else [], id=one.provider) for one in VENDORS]
)
def test_over_the_limit_the_user_sees_why(tracked: Tracked, vendor: Vendor) -> None:
    """As an error, in the browser and over the API; what is free goes on."""
    user = tracked.open_webui.add_user()
    assert not user.ask(vendor.named, "[[sim input=400000 output=0]]").error
    wanted = "Your daily credit limit is reached: 1200 of 1000 credits are spent. It resets at 20"
    for stream in (False, True):
        assert user.ask(vendor.named, ASK, stream=stream).error.startswith(wanted)
    with open_tab(user) as tab:
        message = tab.ask(vendor.named, ASK).wait()
    assert error_text(message["error"]).startswith(wanted) and not message.get("content")
    assert "free-test" in error_text(message["error"])
    assert not user.ask(FREE, ASK).error
    assert tracked.spent(user.id) == 1200
