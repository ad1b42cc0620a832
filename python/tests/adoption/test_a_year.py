"""A database as after a year of use: nothing is lost or altered, spending is exact, and what differs from the original is told."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from places import ZONE, Place

HEAD = "a118dd7f6b7f"
COURSE, GROUP = "0e5c2d7f8a9b4c1d8e7f6a5b4c3d2e1f", "5b1f8b2e4c6d4a0f9e3d2c1b0a998877"
# The processes of a site that has moved twice.
WRITERS = ["Europe/Zurich", "America/New_York", ZONE]
USERS = ["ann", "bob", "cid", "zoë", "Ünal", "Γιώργος", *(f"user{number}" for number in range(30))]
# Credits for so many tokens, the same for both directions. What is not an integer was written by hand.
PRICES: dict[tuple[str, str], tuple[str, int]] = {
    ("openai", "gpt-test"): ("3000", 1_000_000),
    ("mistral", "thirds"): ("1", 3),
    ("Eigene", "naïve-модель"): ("7", 13),
    ("openai", "half"): ("0.5", 1000),
}
MODELS = [*PRICES, ("OpenAI", "gpt-test"), ("openai", "deleted")]


def usage() -> Iterator[dict[str, Any]]:
    """What three processes have logged in a year, some of it in the same microsecond."""
    chance, moment = random.Random(7), datetime(2025, 1, 1, tzinfo=UTC)
    for _ in range(3000):
        moment += timedelta(microseconds=chance.choice([0, 1, chance.randrange(20_000_000_000)]))
        provider, model = chance.choice(MODELS)
        tokens = [None if chance.random() < 0.03 else chance.randrange(5000) for _ in range(2)]
        yield {
            "moment": moment,
            "writer": chance.choice(WRITERS),
            "user": chance.choice(USERS),
            "provider": provider,
            "model": model,
            "input": tokens[0],
            "output": tokens[1],
            "sponsored": COURSE if chance.random() < 0.1 else None,
        }


def local(row: dict[str, Any], zone: str) -> datetime:
    moment: datetime = row["moment"]
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def fill(place: Place) -> None:
    is_sqlite = place.kind == "sqlite"
    # The columns of PostgreSQL hold no fractions.
    prices = {key: price if is_sqlite or "." not in price[0] else ("1", 2000) for key, price in PRICES.items()}
    place.run(
        "INSERT INTO {}model_pricing VALUES (:model, :provider, :model, :credits, :tokens, :credits, :tokens)",
        rows=[
            {"provider": provider, "model": model, "credits": float(credits) if "." in credits else int(credits), "tokens": tokens}
            for (provider, model), (credits, tokens) in prices.items()
        ],
    )
    place.run(
        "INSERT INTO {}base_settings VALUES ('base_credit_allowance', '1_000', 'Alle')",
        f"INSERT INTO {{}}credit_group VALUES ('{GROUP}', 'Ärzte', 250, 'Ünïcode')",
        f"INSERT INTO {{}}credit_group_user VALUES ('{GROUP}', 'ann')",
        "INSERT INTO {}sponsored_allowance (id, name, sponsor_id, total_credit_limit, daily_credit_limit) "
        f"VALUES ('{COURSE}', 'Kurs', 'dean', 100, NULL)",
        f"INSERT INTO {{}}sponsored_allowance_base_models VALUES ('{COURSE}', 'gpt-test')",
    )
    columns = "log_date, user_id, provider, model_id, prompt_tokens, response_tokens, sponsored_allowance_id"
    at, sponsored = (":at", ":sponsored") if is_sqlite else ("CAST(:at AS timestamptz)", "CAST(:sponsored AS uuid)")
    place.run(
        f"INSERT INTO {{}}usage_log ({columns}) VALUES ({at}, :user, :provider, :model, :input, :output, {sponsored})",
        rows=[
            {
                **{key: row[key] for key in ("user", "provider", "model", "input", "output", "sponsored")},
                "at": f"{local(row, row['writer']):%Y-%m-%d %H:%M:%S.%f}" if is_sqlite else row["moment"].isoformat(),
            }
            for row in usage()
        ],
    )


def expected(kind: str) -> Counter[str]:
    """What each account must have spent, in microcredits: by fractions, each request rounded up once."""
    accounts: Counter[str] = Counter()
    prices = {(provider.lower(), model): Fraction(credits) / tokens for (provider, model), (credits, tokens) in PRICES.items()}
    for row in usage():
        rate = prices.get((row["provider"].lower(), row["model"]), Fraction(0))
        charge = math.ceil(((row["input"] or 0) + (row["output"] or 0)) * rate * 1_000_000)
        # On SQLite it is the day that the row says.
        day = local(row, row["writer"] if kind == "sqlite" else ZONE).date()
        keys = [f"user-day:{day}:{row['user']}"]
        if row["sponsored"]:
            keys = [f"sponsored-user-day:{day}:{COURSE}:{row['user']}", f"sponsored-total:{COURSE}"]
        for key in keys:
            accounts[key] += charge
    return Counter({key: charge for key, charge in accounts.items() if charge})


def test_a_takeover_after_a_year(place: Place, tmp_path: Path) -> None:
    place.original.ask("upgrade", revision=HEAD)
    fill(place)
    before, schema = place.dump(), place.schema()
    preview = place.ours("init", "--dry-run")
    assert place.dump() == before and place.schema() == schema
    said = place.ours("init")
    # Not a row is lost, altered or added, prices included.
    assert place.dump() == before
    accounts = {key: int(spent) for key, spent in place.rows("SELECT key, spent FROM {}account") if spent}
    assert accounts == expected(place.kind)
    assert "Clean" in place.ours("verify")
    # What differs from the original is told, before and after.
    total = Decimal(expected(place.kind)[f"sponsored-total:{COURSE}"]) / 1_000_000
    for text in (preview, said):
        assert f"Sponsored Kurs: {total.normalize():f} of its 100 credits in total are used" in text
        assert "Sponsored Kurs: it has no daily limit" in text
        assert "a balance may be one credit lower" in text
        assert "openai/deleted, which has no price" in text
        assert "4 taken over, a list of your own" in text
    # Of today, both say the same but for fractions. The original can't start with a price that has one.
    place.run("UPDATE {}model_pricing SET input_cost_credits = 1, output_cost_credits = 1 WHERE id = 'half'")
    today = datetime.now(ZoneInfo(ZONE)).date()
    for user, prompt in (("ann", 1234), ("bob", 1000), ("cid", 7)):
        place.original.ask("log", times=3, provider="openai", model_id="gpt-test", user={"id": user}, prompt_tokens=prompt, response_tokens=1)
    place.ours("database", "sync")
    balances = {row["user_id"]: math.floor(Decimal(str(row["free"]))) for row in place.json("balance")}
    theirs = {user: place.original.ask("remaining", user=user)[0] for user in ("ann", "bob", "cid")}
    if datetime.now(ZoneInfo(ZONE)).date() == today:
        assert {user: theirs[user] - balances[user] in (0, 1) for user in theirs} == dict.fromkeys(theirs, True), (theirs, balances)
    # Every start does nothing more, and the way back leaves the rows as they are.
    assert "Nothing has changed" in place.ours("init")
    dumped = place.dump()
    place.ours("database", "downgrade", "--export", str(tmp_path / "tracking.jsonl"), "--yes")
    assert place.dump() == dumped
