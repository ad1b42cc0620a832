"""The original and ours on one database at the same time, as during a change-over."""

import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from places import Place
from programs import KEY, MODELS, Gateway, Process, finish, serve

EACH = 500
# Each of our requests, and each of the original's, costs 3 credits for its input and 3 for its output.
TOKENS = (1000, 200)
PRICE = MODELS[0]


def ask(url: str, user: str) -> int:
    """The status of one chat."""
    content = f"[[sim input={TOKENS[0]} output={TOKENS[1]}]]"
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {KEY}", "x-openwebui-user-id": user},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def start(place: Place, provider: str, folder: Path, allowance: int) -> tuple[Gateway, Process]:
    """A gateway on the database of the original."""
    place.original.ask("upgrade", revision="a118dd7f6b7f")
    running = Gateway("", place.environment)
    table = f'[[provider]]\nname = "openai"\nkind = "openai"\nbase_url = "{provider}"\napi_key = "a-provider-key"\n'
    return running, serve(running, folder, [PRICE], table, {"base_credit_allowance": str(allowance)})


def within(seconds: float, holds, what: str) -> None:
    """Waits for something that must come true by itself."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def usage(user: str) -> dict:
    provider, model, (prompt, response) = "openai", "gpt-test", TOKENS
    named = {"provider": provider, "model_id": model, "user": {"id": user}}
    return {**named, "prompt_tokens": prompt, "response_tokens": response}


def test_a_thousand_requests(place: Place, provider: str, tmp_path: Path) -> None:
    # Enough for all of them, and not for one more.
    allowance = 2 * EACH * 6
    gateway, process = start(place, provider, tmp_path, allowance)
    logging = threading.Thread(target=lambda: place.original.ask("log", times=EACH, **usage("ann")))
    logging.start()
    with ThreadPoolExecutor(8) as pool:
        served = list(pool.map(lambda _: ask(gateway.url, "ann"), range(EACH)))
    logging.join()
    assert served == [200] * EACH

    def imported() -> bool:
        return place.rows("SELECT count(*) FROM {}usage_log WHERE tracking_id IS NULL") == [(0,)]

    within(5, imported, "what the original wrote was not picked up")
    assert place.rows("SELECT count(*) FROM {}usage_log") == [(2 * EACH,)]
    kinds = place.rows("SELECT kind, count(*), count(DISTINCT id), sum(charge) FROM {}ledger GROUP BY kind ORDER BY kind")
    assert [(kind, rows, ids, int(charge)) for kind, rows, ids, charge in kinds] == [
        ("import", EACH, EACH, EACH * 6_000_000),
        ("request", EACH, EACH, EACH * 6_000_000),
    ]
    assert place.rows("SELECT count(*) FROM {}usage_log AS log JOIN {}ledger AS entry ON entry.id = log.tracking_id") == [
        (2 * EACH,)
    ]
    assert "Clean" in place.ours("verify")
    # The limits of both see both.
    assert place.original.ask("remaining", user="ann") == [0, None]
    assert ask(gateway.url, "ann") == 402
    finish(gateway, process)


def test_what_the_original_changes_holds_here(place: Place, provider: str, tmp_path: Path) -> None:
    gateway, process = start(place, provider, tmp_path, 10)
    place.original.ask("log", times=1, **usage("bob"))
    within(5, lambda: place.json("balance", "bob")[0]["spent"] == 6, "usage was not picked up")
    place.original.ask("price", model_id="gpt-test", provider="openai", input_cost_credits=1000)
    within(
        5,
        lambda: place.json("pricing", "get", "gpt-test")[0]["input_cost_credits"] == 1000,
        "the price was not picked up",
    )
    refused = place.ours("database", "downgrade", "--export", "export.jsonl", "--yes", code=1)
    assert f"process {process.process.pid}" in refused and not (tmp_path / "export.jsonl").exists()
    # Four credits are left here. The original charges history anew at each price.
    assert ask(gateway.url, "bob") == 200
    assert place.json("balance", "bob")[0]["spent"] == 6 + 4
    assert ask(gateway.url, "bob") == 402
    assert place.original.ask("remaining", user="bob") == [10 - 2 * 4, None]
    finish(gateway, process)


def test_groups_and_settings_are_shared(place: Place) -> None:
    place.original.ask("upgrade", revision="a118dd7f6b7f")
    place.ours("init")
    place.ours("credit-group", "create", "staff", "500", "They work here")
    place.ours("credit-group", "add-user", "ann", "staff")
    assert place.original.ask("remaining", user="ann") == [1500, None]
    assert place.original.ask("remaining", user="bob") == [1000, None]
