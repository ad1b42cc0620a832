"""Answers that end before their end, in a real Open WebUI: nothing is free, and the model server is told to stop."""

import time
from decimal import Decimal

import pytest

from gateway import cost
from tab import open_tab
from tracked import FREE, MICRO, MODEL, OPENAI, VENDORS, Tracked, Vendor
from upstream import mark
from waiting import until

TEXT = "The answer to this question is simple enough to be given."
# A hundred seconds of answer.
LONG = "input=1000 output=5000 delay=20"
# About a second of it.
SECOND = 50
# How long the model server may go on after its client has ended, in seconds.
CANCELLED = 1.0

# With one of them in the small set.
first_vendor = pytest.mark.parametrize(
    "vendor", [pytest.param(one, marks=pytest.mark.smoke if one is OPENAI else [], id=one.provider) for one in VENDORS]
)


def ended_early(tracked: Tracked, marked: str, user: str, since: float) -> None:
    """The model server stopped at once; what it had produced by then is charged, as an estimate."""
    produced = tracked.upstream.ended(marked, "cancelled")["produced"]
    took = time.monotonic() - since
    (row,) = tracked.rows(user)
    print(f"cancelled after {took:.2f} s; produced {produced}, charged {row['output_tokens']} tokens")
    assert took < CANCELLED
    assert row["outcome"] == "client_gone" and row["estimated"]
    assert abs(row["output_tokens"] - produced) <= produced / 10
    assert row["input_tokens"] > 0
    assert Decimal(row["charge"]) / MICRO == cost("gpt-test", row["input_tokens"], row["output_tokens"])


def saying(tracked: Tracked, marked: str) -> None:
    """Waits until the model server has answered for about a second."""
    until(lambda: tracked.upstream.only(marked)["produced"] >= SECOND, "a second of the answer")


@first_vendor
def test_stop_after_a_second_charges_what_was_produced(tracked: Tracked, vendor: Vendor) -> None:
    marked = mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(vendor.named, f"{marked} [[sim {LONG}]]", background={})
        turn.began()
        saying(tracked, marked)
        since = time.monotonic()
        turn.stop()
        ended_early(tracked, marked, tab.account.id, since)
        message = tab.account.message(turn.chat, turn.answer)
    assert message["content"].startswith("The answer to this question") and "error" not in message


@pytest.mark.smoke
def test_an_api_client_that_goes_away_is_charged_what_was_produced(tracked: Tracked) -> None:
    marked, user = mark(), tracked.open_webui.add_user()
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"{marked} [[sim {LONG}]]"}], "stream": True}
    with user.client() as client, client.stream("POST", "/api/chat/completions", json=body) as response:
        assert response.is_success
        lines = response.iter_lines()
        for _ in range(2 * SECOND):
            next(lines)
        since = time.monotonic()
    ended_early(tracked, marked, user.id, since)


@pytest.mark.smoke
def test_a_closed_tab_does_not_end_the_answer(tracked: Tracked) -> None:
    """It is finished, saved, and charged exactly."""
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(MODEL, "[[sim input=1000 output=100 delay=20]]", background={})
        turn.began()
    assert tracked.ledger(tab.account.id) == []
    message = tab.account.finished_message(turn.chat, turn.answer)
    (row,) = tracked.rows(tab.account.id)
    # Twelve tokens for each sentence, and four.
    assert message["content"] == 8 * TEXT + "The answer to this" and message["usage"]["completion_tokens"] == 100
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("complete", None, 100)


def test_stop_before_the_first_word_charges_the_input(tracked: Tracked) -> None:
    marked = mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(MODEL, f"{marked} [[sim first=60000]]", background={})
        until(lambda: tracked.upstream.received(marked), "the model server is asked")
        since = time.monotonic()
        turn.stop()
        tracked.upstream.ended(marked, "cancelled")
        assert time.monotonic() - since < CANCELLED
        (row,) = tracked.rows(tab.account.id)
    assert row["input_tokens"] > 0 and row["output_tokens"] == 0 and row["estimated"]


def test_stop_during_an_answer_of_a_free_model_is_free(tracked: Tracked) -> None:
    marked = mark()
    with open_tab(tracked.open_webui.add_user()) as tab:
        turn = tab.ask(FREE, f"{marked} [[sim {LONG}]]", background={})
        turn.began()
        turn.stop()
        tracked.upstream.ended(marked, "cancelled")
        (row,) = tracked.rows(tab.account.id)
    assert row["charge"] == 0 and row["output_tokens"] > 0
