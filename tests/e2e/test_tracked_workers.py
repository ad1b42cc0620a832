"""Four workers of Open WebUI, each with a gateway of its own on the same database; and what is left of those that are killed."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

import open_webui as servers
from databases import KINDS, Database, fresh_database
from open_webui import OpenWebUI
from processes import parent
from tab import open_tab
from test_tracked_limits import asked_at_once
from tracked import ASK, MODEL, ONE, Tracked, tracking
from upstream import Upstream, mark
from waiting import until

# Seconds of writing by all of them.
WRITING = float(os.environ.get("OWUI_E2E_WRITING", "20"))
LONG = "input=1000 output=5000 delay=20"


@pytest.fixture(scope="module", params=KINDS)
def four(request, tmp_path_factory, upstream: Upstream) -> Iterator[Tracked]:
    with fresh_database(request.param, tmp_path_factory.mktemp(f"four-{request.param}")) as database:
        with servers.running(database, workers=4) as server, tracking(server, upstream) as tracked:
            yield tracked
        _intact(database)


def _intact(database: Database) -> None:
    """After all that was written: SQLite's file is in order."""
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("count", [2, 10])
def test_parallel_chats_with_credits_for_one(four: Tracked, count: int) -> None:
    asked_at_once(four, count)


def test_a_while_of_writing_by_all_workers_leaves_the_database_intact(four: Tracked) -> None:
    """Chats, which Open WebUI saves, and requests of the API; every one is answered and charged, once."""
    server, end = four.open_webui, time.monotonic() + WRITING
    users = [server.add_user() for _ in range(8)]

    def api(user) -> int:
        count = 0
        while time.monotonic() < end:
            answer = user.ask(MODEL, ASK, stream=count % 2 == 0)
            assert not answer.error, answer.error
            count += 1
        return count

    def chats(user) -> int:
        count = 0
        with open_tab(user) as tab:
            while time.monotonic() < end:
                turn = tab.ask(MODEL, ASK, background={})
                message = user.finished_message(turn.chat, turn.answer)
                assert "error" not in message, message["error"]
                count += 1
        return count

    with ThreadPoolExecutor(8) as threads:
        asked = list(threads.map(lambda one: (chats if one[0] % 2 else api)(one[1]), enumerate(users)))
    print(f"{WRITING:.0f} s: {sum(asked)} requests, {len(server.children())} gateways")
    assert [four.spent(user.id) for user in users] == [count * ONE for count in asked]
    assert len(server.children()) > 1
    assert four.locked_out() == []
    four.settled()
    if four.database.kind == "sqlite":
        assert four.database.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_killed_gateway_is_replaced_and_its_request_is_charged(four: Tracked) -> None:
    killed_mid_stream(four, lambda children: children)


def test_a_killed_worker_is_replaced_and_its_request_is_charged(four: Tracked) -> None:
    """Its gateway notices, settles, and ends."""
    before = set(four.open_webui.children())
    children = killed_mid_stream(four, lambda children: {parent(child) for child in children})
    until(lambda: not set(children) & set(four.open_webui.children()), "the gateways of killed workers end")
    assert before


def killed_mid_stream(tracked: Tracked, victims) -> list[int]:
    """Kills while a request is answered. It is charged once, for what it said, and the next ones are answered."""
    server: OpenWebUI = tracked.open_webui
    marked, user, other = mark(), server.add_user(), server.add_user()
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"{marked} [[sim {LONG}]]"}], "stream": True}
    with user.client() as client, client.stream("POST", "/api/chat/completions", json=body) as response:
        lines = response.iter_lines()
        for _ in range(200):
            next(lines)
        children = server.children()
        for victim in set(victims(children)):
            os.kill(victim, signal.SIGKILL)
        try:
            said = "".join(lines)
        except httpx.TransportError:
            said = ""
    assert "[DONE]" not in said or "error" in said
    produced = tracked.upstream.ended(marked, "cancelled")["produced"]

    def works() -> bool:
        try:
            answer = other.ask(MODEL, ASK)
        except httpx.TransportError:
            return False
        return not answer.error

    until(works, "the next request is answered", 120)
    (row,) = tracked.rows(user.id)
    print(f"produced {produced}, charged {row['output_tokens']}, {row['outcome']}")
    # A killed gateway saved its progress within the last two seconds.
    assert 0 < row["output_tokens"] <= produced * 1.1 and row["estimated"]
    assert row["output_tokens"] >= produced / 10
    tracked.settled()
    assert len(tracked.ledger(user.id)) == 1
    return children
