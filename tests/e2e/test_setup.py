"""Open WebUI set up otherwise: by its environment alone, on a database where we were first, with user headers that are not
signed, and with several workers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import gateway as gateways
import open_webui as servers
from databases import KINDS, Database, fresh_database
from gateway import HEADERS, KEY, SHARED, Gateway, cost
from open_webui import OpenWebUI
from tab import open_tab

ASK = "[[sim input=1000 output=100]]"
ONE = cost("gpt-test", 1000, 100)
# Open WebUI keeps its settings from its first start on, and then no longer believes the environment.
NOT_FROM_DATABASE = {"ENABLE_PERSISTENT_CONFIG": "false", "ENABLE_DB_MIGRATIONS": "false"}
SECRET = "a-signing-secret-that-only-we-have"


@pytest.fixture(params=KINDS)
def empty_database(request, tmp_path) -> Iterator[Database]:
    with fresh_database(request.param, tmp_path) as made:
        yield made


@contextmanager
def connected(database: Database, gateway: Gateway, workers: int = 1, **more: str) -> Iterator[OpenWebUI]:
    """A server that has its connection from the environment."""
    connection = {
        "OPENAI_API_BASE_URLS": gateway.url,
        "OPENAI_API_KEYS": KEY,
        "OPENAI_API_CONFIGS": json.dumps({"0": {"enable": True, "headers": HEADERS}}),
        **more,
    }
    with servers.running(database, workers, **connection) as server:
        for model in SHARED:
            server.add_model(model)
        yield server


def test_without_a_secret_plain_headers_say_who_asks(empty_database: Database, simulator: str) -> None:
    with (
        gateways.serving(empty_database, f"{simulator}/v1") as gateway,
        connected(empty_database, gateway) as server,
        open_tab(server.add_user()) as tab,
    ):
        message = tab.ask("gpt-test", ASK, background={}).wait()
        assert message["usage"]["completion_tokens"] == 100
        (row,) = gateway.ledger(tab.account.id)
        assert row["workspace_model"] == "gpt-test"
        assert gateway.spent(tab.account.id) == ONE


def test_with_a_secret_plain_headers_are_refused(empty_database: Database, simulator: str) -> None:
    with (
        gateways.serving(empty_database, f"{simulator}/v1", SECRET) as gateway,
        connected(empty_database, gateway) as server,
        open_tab(server.add_user()) as tab,
    ):
        message = tab.ask("gpt-test", ASK, background={}).wait()
        assert "FORWARD_USER_INFO_HEADER_JWT_SECRET" in message["error"]["content"]
        assert gateway.ledger(tab.account.id) == []


def test_four_workers(empty_database: Database, simulator: str) -> None:
    """Whichever worker a request comes to, each is charged, once."""
    # Four workers that make the tables of one database at the same time fail; so one makes them.
    with servers.running(empty_database):
        pass
    with (
        gateways.serving(empty_database, f"{simulator}/v1") as gateway,
        connected(empty_database, gateway, workers=4, **NOT_FROM_DATABASE) as server,
        ThreadPoolExecutor(16) as threads,
    ):
        users = [server.add_user() for _ in range(4)]
        asked = [threads.submit(user.ask, "gpt-test", ASK, stream=True) for user in users for _ in range(6)]
        assert [answer.result().error for answer in asked] == [""] * 24
        assert [gateway.spent(user.id) for user in users] == [6 * ONE] * 4
        # Events reach a tab only from its own worker; what is saved is the same for all.
        with open_tab(users[0]) as tab:
            turn = tab.ask("gpt-test", ASK, background={})
            assert "error" not in users[0].finished_message(turn.chat, turn.answer)
        assert gateway.spent(users[0].id) == 7 * ONE
