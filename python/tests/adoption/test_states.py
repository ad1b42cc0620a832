"""From each of the original's own states: what it wrote is kept, counted, and left behind as it was."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from places import ZONE, Place

REVISIONS = ["99fb3ad5e0e7", "6099739cae0b", "c46ceb8649c3", "036cd1c4af2d", "10d29ec2fd0a", "a118dd7f6b7f"]
HEAD = REVISIONS[-1]
PRICED, SPONSORING = 1, 5
GROUP, SPONSORED = "5b1f8b2e4c6d4a0f9e3d2c1b0a998877", "0e5c2d7f8a9b4c1d8e7f6a5b4c3d2e1f"
PRICES: list[dict[str, Any]] = [
    {
        "id": "gpt-test",
        "provider": "openai",
        "name": "Test",
        "input_cost_credits": 3000,
        "per_input_tokens": 1_000_000,
        "output_cost_credits": 15000,
        "per_output_tokens": 1_000_000,
    },
    {
        "id": "thirds",
        "provider": "mistral",
        "name": "Thirds",
        "input_cost_credits": 1,
        "per_input_tokens": 3,
        "output_cost_credits": 2,
        "per_output_tokens": 3,
    },
]
# Local time, user, provider, model, tokens, whether the sponsor pays; and what each costs, by hand.
USAGE = [
    ("2025-02-18 23:59:59.999999", "ann", "openai", "gpt-test", 1000, 200, False, "6"),
    ("2025-02-19 00:00:00.000000", "ann", "OpenAI", "gpt-test", 1, 0, False, "0.003"),
    ("2025-02-19 00:00:00.000000", "ann", "OpenAI", "gpt-test", 1, 0, False, "0.003"),
    ("2025-02-19 10:00:00.500000", "bob", "mistral", "thirds", 1, 0, False, "0.333334"),
    ("2025-02-19 10:00:01.000000", "bob", "mistral", "thirds", 2, 2, False, "2"),
    ("2025-02-19 10:00:02.000000", "bob", "mistral", "gone", 500, 500, False, "0"),
    ("2025-02-19 10:00:03.000000", "ann", "openai", "gpt-test", 2000, 400, True, "12"),
    ("2025-02-20 10:00:03.000000", "bob", "openai", "gpt-test", 0, 100, True, "1.5"),
]


def fill(place: Place, state: int) -> None:
    """What an installation at that state has gathered."""
    dash = "-" if place.kind == "postgres" else ""
    uuid = {one: dash.join([one[:8], one[8:12], one[12:16], one[16:20], one[20:]]) for one in (GROUP, SPONSORED)}
    if state >= PRICED:
        columns = ", ".join(PRICES[0])
        values = ", ".join(f":{column}" for column in PRICES[0])
        place.run(f"INSERT INTO {{}}model_pricing ({columns}) VALUES ({values})", rows=PRICES)
    if state >= 2:
        place.run(
            f"INSERT INTO {{}}credit_group VALUES ('{uuid[GROUP]}', 'Staff', 500, 'Ünïcode')",
            f"INSERT INTO {{}}credit_group_user VALUES ('{uuid[GROUP]}', 'ann')",
        )
    if state >= 3:
        place.run("INSERT INTO {}base_settings VALUES ('base_credit_allowance', '777', 'mine'), ('another', 'x', NULL)")
    if state >= 4:
        place.run(
            "INSERT INTO {}sponsored_allowance (id, name, sponsor_id, total_credit_limit, daily_credit_limit) "
            f"VALUES ('{uuid[SPONSORED]}', 'Course', 'dean', 1000, NULL)",
            f"INSERT INTO {{}}sponsored_allowance_base_models VALUES ('{uuid[SPONSORED]}', 'gpt-test')",
        )
    for date, user, provider, model, prompt, response, sponsored, _ in usage(state):
        at = f"'{date}'" if place.kind == "sqlite" else f"TIMESTAMP '{date}' AT TIME ZONE '{ZONE}'"
        row = f"{at}, '{user}', '{provider}', '{model}', {prompt}, {response}"
        names = "log_date, user_id, provider, model_id, prompt_tokens, response_tokens"
        if sponsored:
            names, row = f"{names}, sponsored_allowance_id", f"{row}, '{uuid[SPONSORED]}'"
        place.run(f"INSERT INTO {{}}usage_log ({names}) VALUES ({row})")


def usage(state: int) -> list[tuple[Any, ...]]:
    """The rows that a database of that state can have."""
    return [row for row in USAGE if state >= SPONSORING or not row[6]]


def expected(state: int) -> dict[str, Decimal]:
    """What each account must have spent, in microcredits."""
    accounts: dict[str, Decimal] = {}
    for date, user, _, _, _, _, sponsored, credits in usage(state):
        day = date[:10]
        keys = [f"user-day:{day}:{user}"]
        if sponsored:
            keys = [f"sponsored-user-day:{day}:{SPONSORED}:{user}", f"sponsored-total:{SPONSORED}"]
        for key in keys:
            accounts[key] = accounts.get(key, Decimal(0)) + Decimal(credits) * 1_000_000
    return accounts


@pytest.mark.parametrize("revision", REVISIONS)
def test_there_and_back(place: Place, revision: str, tmp_path: Path) -> None:
    state = REVISIONS.index(revision)
    place.original.ask("upgrade", revision=revision)
    fill(place, state)
    before, schema = place.dump(), place.schema()
    (tmp_path / "models.json").write_text(json.dumps(PRICES))
    init = ("init", "--model-json", "models.json")
    # What would be done; nothing is.
    said = place.ours(*init, "--dry-run")
    total = sum(Decimal(row[7]) for row in usage(state))
    assert f"{len(usage(state))} rows of the earlier installation, {total.normalize():f} credits" in said
    assert "mistral/gone" in said and "token_tracking_ledger" in said
    assert place.dump() == before and place.schema() == schema
    # It is done, once.
    said = place.ours(*init)
    assert f"{len(usage(state))} rows of the earlier installation, {total.normalize():f} credits" in said
    after = place.dump()
    assert after["usage_log"] == {_with_sponsor(row, place, state): count for row, count in before["usage_log"].items()}
    for table, rows in before.items():
        if table != "usage_log":
            assert not rows - after[table], f"{table} has lost or changed rows"
    accounts = {key: Decimal(spent) for key, spent in place.rows("SELECT key, spent FROM {}account") if spent}
    assert accounts == {key: spent for key, spent in expected(state).items() if spent}
    assert "Clean" in place.ours("verify")
    status = place.json("database", "status")
    assert (status["current"], status["original"], status["not_imported"], status["missing"]) == (True, HEAD, 0, [])
    if state >= 3:
        assert place.json("settings", "get", "base_credit_allowance")[0]["setting_value"] == "777"
    contents = {table: sorted(map(repr, place.rows(f"SELECT * FROM {{}}{table}"))) for table in ("ledger", "price", "account")}
    assert "Nothing has changed" in place.ours(*init)
    for table, rows in contents.items():
        assert sorted(map(repr, place.rows(f"SELECT * FROM {{}}{table}"))) == rows
    # The original still runs, and its own migration finds nothing to do.
    ours, dumped = place.schema(), place.dump()
    place.original.ask("migrate")
    assert place.schema() == ours and place.dump() == dumped
    place.original.ask("log", times=1, provider="openai", model_id="gpt-test", user={"id": "cid"}, prompt_tokens=1000, response_tokens=0)
    assert place.json("database", "sync")["rows"] == 1
    assert place.original.ask("remaining", user="cid") == [(777 if state >= 3 else 1000) - 3, None]
    assert place.json("balance", "cid")[0]["spent"] == 3
    # And back.
    dumped = place.dump()
    place.ours("database", "downgrade", "--export", "tracking.jsonl", code=1)
    said = place.ours("database", "downgrade", "--export", "tracking.jsonl", "--yes")
    assert place.dump() == dumped, said
    assert not any(table for table in place.schema() if table not in known_tables())
    lines = [json.loads(line) for line in (tmp_path / "tracking.jsonl").read_text().splitlines()]
    assert sum(line["table"] == "token_tracking_ledger" for line in lines) == len(usage(state)) + 1
    place.original.ask("migrate")
    assert place.original.ask("remaining", user="cid") == [(777 if state >= 3 else 1000) - 3, None]
    # Forward again.
    place.ours("database", "downgrade", "--export", "tracking.jsonl", "--yes", code=1)
    assert f"{len(usage(state)) + 1} rows of the earlier installation" in place.ours(*init)
    assert "Clean" in place.ours("verify")


def known_tables() -> set[str]:
    """What is there when nothing of ours is."""
    names = (
        "usage_log model_pricing credit_group credit_group_user base_settings sponsored_allowance "
        "sponsored_allowance_base_models alembic_version"
    )
    return {"user", *(f"token_tracking_{name}" for name in names.split())}


def _with_sponsor(row: str, place: Place, state: int) -> str:
    """A row of the log as it looks once the column for the sponsored allowance is there."""
    if state >= SPONSORING:
        return row
    return f"{row[:-1]}, 'null', 'NULL')" if place.kind == "sqlite" else f"{row[:-1]}, None)"


def test_a_hundred_thousand_rows(place: Place, tmp_path: Path) -> None:
    place.original.ask("upgrade", revision=HEAD)
    fill(place, REVISIONS.index(HEAD))
    at = "'2025-03-01 12:00:00.000000'" if place.kind == "sqlite" else f"TIMESTAMP '2025-03-01 12:00:00' AT TIME ZONE '{ZONE}'"
    place.run(
        "INSERT INTO {}usage_log (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) "
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        f"SELECT {at}, 'user' || (i % 500), 'openai', 'gpt-test', 1000, 200 FROM n"
    )
    before = place.dump()
    (tmp_path / "models.json").write_text("[]")
    said = place.ours("init", "--model-json", "models.json")
    assert f"{100_000 + len(USAGE)} rows of the earlier installation" in said
    accounts = place.rows("SELECT spent, count(*) FROM {}account WHERE day = '2025-03-01' GROUP BY spent")
    assert accounts == [(200 * 6_000_000, 500)]
    assert "Clean" in place.ours("verify")
    place.ours("database", "downgrade", "--export", "tracking.jsonl", "--yes")
    assert place.dump() == before
