"""The same calls to the original and to ours, each on a database of its own: results and effects are compared.

`scripts/original-environment` installs the original.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import databases
import perform
import pytest
import sqlalchemy as sa

ROOT = Path(__file__).parents[3]
Call = tuple[str, str, dict[str, Any]]
PRICE = {
    "provider": "openai",
    "id": "gpt-test",
    "name": "Test",
    "input_cost_credits": 3000,
    "per_input_tokens": 1_000_000,
    "output_cost_credits": 15000,
    "per_output_tokens": 1_000_000,
}
OTHER = {**PRICE, "id": "other", "provider": "mistral"}
UPSERT = {**{key: value for key, value in PRICE.items() if key != "id"}, "model_id": "gpt-test"}


def groups(function: str, **parameters: Any) -> Call:
    return "credit_groups", function, parameters


def group(name: str = "staff", allowance: int = 2000) -> Call:
    return groups(
        "create_credit_group", credit_group_name=name, credit_allowance=allowance, description="Who works here"
    )


def add(user: str = "ann", name: str = "staff") -> Call:
    return groups("add_user", user_id=user, credit_group_name=name)


def remove(user: str = "ann", name: str = "staff") -> Call:
    return groups("remove_user", user_id=user, credit_group_name=name)


def update(name: str = "staff", **changes: Any) -> Call:
    return groups("update_credit_group", credit_group_name=name, **changes)


def delete(name: str = "staff", **how: Any) -> Call:
    return groups("delete_credit_group", credit_group_name=name, **how)


def prices(function: str, **parameters: Any) -> Call:
    return "model_pricing", function, parameters


def priced(*several: dict[str, Any]) -> Call:
    return prices("add_model_pricing", model_pricing=[{"schema": price} for price in several])


def change(model: str = "gpt-test", provider: str = "openai", **updates: Any) -> Call:
    return prices("update_model_pricing", model_id=model, provider=provider, updates=updates)


def sponsored(function: str, **parameters: Any) -> Call:
    return "sponsored", f"{function}_sponsored_allowance", parameters


def sponsor(**changes: Any) -> Call:
    usual = {
        "sponsor_id": "AI department",
        "name": "course",
        "models": ["gpt-test", "other"],
        "total_credit_limit": 1000,
        "daily_credit_limit": 20,
    }
    return sponsored("create", **{**usual, **changes})


def find(**which: str) -> Call:
    return "user", "find_user", which


def write(*settings: tuple[str, str, str]) -> Call:
    names = ("setting_key", "setting_value", "description")
    return (
        "settings",
        "init_base_settings",
        {"settings": [dict(zip(names, one, strict=True)) for one in settings] or None},
    )


LIST_GROUPS = groups("list_credit_groups")
GET = groups("get_credit_group", credit_group_name="staff")
UPSERT_GROUP = groups("upsert_credit_group", credit_group_name="staff", credit_allowance=5, description="Five")
MEMBERS = groups("list_users", credit_group_name="staff")
ALL_PRICES = prices("list_model_pricing")
ALLOWANCES = ("sponsored", "get_sponsored_allowances", {})

# Where both must do the same.
SAME: dict[str, list[Call]] = {
    "a group is made": [group(), GET, LIST_GROUPS],
    "a group is there already": [group(), group()],
    "no groups": [LIST_GROUPS, GET],
    "a group is changed": [
        group(),
        update(new_credit_allowance=1),
        GET,
        update(new_description="Others", new_name="others"),
        LIST_GROUPS,
    ],
    "a group is not changed": [
        group(),
        group("guests"),
        update(),
        update("nobody", new_credit_allowance=1),
        update(new_name="guests"),
    ],
    "a group keeps its name": [group(), update(new_name="staff"), GET],
    "a group is upserted": [UPSERT_GROUP, GET, UPSERT_GROUP, group(), LIST_GROUPS],
    "a group is deleted": [group(), delete(), LIST_GROUPS, delete(), delete(force=True)],
    "a group with members is deleted": [group(), add(), delete(), delete(force=True), LIST_GROUPS],
    "members": [
        group(),
        group("guests", 10),
        MEMBERS,
        add("ann"),
        add("bob"),
        add("ann", "guests"),
        add("ann"),
        MEMBERS,
        LIST_GROUPS,
        find(user_id="ann"),
        remove("ann"),
        MEMBERS,
    ],
    "members of no group": [
        add(),
        remove(),
        groups("list_users", credit_group_name="nobody"),
        group(),
        remove("ann"),
        remove("nobody"),
    ],
    "prices are added": [priced(PRICE, OTHER), ALL_PRICES],
    "prices are found": [
        priced(PRICE, OTHER),
        prices("list_model_pricing", provider="openai"),
        prices("list_model_pricing", provider="none"),
        prices("get_model_pricing", model_id="gpt-test"),
        prices("get_model_pricing", provider="mistral"),
        prices("get_model_pricing", model_id="gpt-test", provider="mistral"),
        prices("get_model_pricing"),
    ],
    "a price is changed": [
        priced(PRICE),
        change(input_cost_credits=1, per_input_tokens=1000, name="New"),
        change(output_cost_credits=7, per_output_tokens=7, id="ignored", colour="red"),
        ALL_PRICES,
    ],
    "a price is not changed": [
        priced(PRICE),
        change(),
        change(id="ignored"),
        change("none", name="New"),
        change(provider="mistral", name="New"),
        ALL_PRICES,
    ],
    "a price is upserted": [
        prices("upsert_model_pricing", **UPSERT),
        prices("upsert_model_pricing", **{**UPSERT, "name": "New", "input_cost_credits": 0}),
        ALL_PRICES,
    ],
    "a price is deleted": [
        priced(PRICE, OTHER),
        prices("delete_model_pricing", model_id="gpt-test"),
        prices("delete_model_pricing", model_id="other", provider="mistral"),
        prices("delete_model_pricing", model_id="other"),
        ALL_PRICES,
    ],
    "settings": [
        write(),
        write(("base_credit_allowance", "500", "Less"), ("hold_wait", "5", "Ours"), ("of_others", "blue", "Theirs")),
    ],
    "an allowance is made": [
        priced(PRICE, OTHER),
        sponsor(),
        sponsor(name="b", sponsor_id="ann", models=["other"], daily_credit_limit=None),
        ALLOWANCES,
        ("sponsored", "get_sponsored_allowances", {"sponsor_id": "ann"}),
        ("sponsored", "get_sponsored_allowances", {"sponsor_id": "nobody"}),
        sponsored("get", name="course"),
    ],
    "an allowance is changed": [
        priced(PRICE, OTHER),
        sponsor(),
        sponsored("update", name="course", total_credit_limit=5, daily_credit_limit=1),
        sponsored("update", name="course", new_name="lecture", sponsor_id="ann"),
        sponsored("update", name="lecture", models=["other"]),
        ALLOWANCES,
    ],
    "an allowance is deleted": [priced(PRICE, OTHER), sponsor(), sponsored("delete", name="course"), ALLOWANCES],
    "no allowance": [
        ALLOWANCES,
        sponsored("get", name="nobody"),
        sponsored("get"),
        sponsored("update", name="nobody", total_credit_limit=1),
        sponsored("update", total_credit_limit=1),
        sponsored("delete", name="nobody"),
        sponsored("delete"),
    ],
    "users": [
        find(user_id="ann"),
        find(name="Ann"),
        find(email="ann@example.org"),
        find(name="Bob", email="cid@example.org"),
        find(name="Ann", email="bob@example.org"),
        find(name="ann"),
        find(user_id="nobody"),
        find(),
    ],
}

# Where the original is wrong: the calls, and what ours makes of the last of them.
DIFFERENT: dict[str, tuple[list[Call], dict[str, Any]]] = {
    "an unknown user gets into no group": ([group(), add("nobody")], {"raised": "KeyError"}),
    "a name differs in case alone": ([group(), group("STAFF")], {"raised": "KeyError"}),
    "a group is renamed to one that differs in case": (
        [group(), group("guests"), update("guests", new_name="STAFF")],
        {"raised": "KeyError"},
    ),
    "an allowance below zero": ([group(allowance=-1)], {"raised": "ValueError"}),
    "a price is there already": ([priced(PRICE), priced(PRICE)], {"raised": "ValueError"}),
    "a model at two providers": ([priced(PRICE), priced({**PRICE, "provider": "azure"})], {"returned": None}),
    "a price at another provider is deleted": (
        [priced(PRICE), prices("delete_model_pricing", model_id="gpt-test", provider="azure")],
        {"returned": False},
    ),
    "a price below zero": ([priced({**PRICE, "input_cost_credits": -1})], {"raised": "ValueError"}),
    "a setting that can't be": ([write(("timezone", "Mars/Olympus", ""))], {"raised": "ValueError"}),
    "an allowance for a model without a price": ([sponsor()], {"raised": "ValueError"}),
    "two allowances of one name": ([priced(PRICE, OTHER), sponsor(), sponsor()], {"raised": "ValueError"}),
}


def performed(python: str, tasks: dict[str, list[Call]]) -> dict[str, list[dict[str, Any]]]:
    """What an interpreter makes of calls on databases."""
    # The original's looks at no path of ours.
    isolated = [] if python == sys.executable else ["-I"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(
        [python, *isolated, perform.__file__],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    assert {"raised": "ImportError"} not in [result for several in results.values() for result in several]
    return results


MIGRATE: Call = ("db", "migrate_database", {})
@dataclass(frozen=True)
class Made:
    """What one of the two made of the calls, and of the database."""

    results: list[dict[str, Any]]
    effects: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def original_template(kind: str, original: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with the tables that the original makes."""
    with databases.fresh(kind, tmp_path_factory.mktemp("original")) as url:
        performed(original, {url: [MIGRATE]})
        yield url


@pytest.fixture(scope="session")
def made(
    kind: str, original: str, original_template: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Made, Made]]:
    """For each list of calls: what ours made of it, and what the original did."""
    folder = tmp_path_factory.mktemp("made")
    lists = {**SAME, **{name: calls for name, (calls, _) in DIFFERENT.items()}}
    both = []
    for python, empty in ((sys.executable, template), (original, original_template)):
        with contextlib.ExitStack() as stack:
            urls = {name: stack.enter_context(databases.fresh(kind, folder, empty)) for name in lists}
            results = performed(python, {urls[name]: calls for name, calls in lists.items()})
            both.append({name: Made(results[url], databases.effects(url)) for name, url in urls.items()})
    ours, theirs = both
    return {name: (ours[name], theirs[name]) for name in lists}


@pytest.mark.parametrize("name", SAME)
def test_does_the_same(name: str, made: dict[str, tuple[Made, Made]]) -> None:
    ours, theirs = made[name]
    assert ours.results == theirs.results
    assert ours.effects == theirs.effects


@pytest.mark.parametrize("name", DIFFERENT)
def test_does_better(name: str, made: dict[str, tuple[Made, Made]]) -> None:
    ours, theirs = made[name]
    assert ours.results[-1] == DIFFERENT[name][1]
    assert ours.results[:-1] == theirs.results[:-1]
    # Else it belongs above.
    assert ours != theirs


def test_makes_the_same_tables(template: str, original_template: str) -> None:
    def shape(url: str) -> dict[str, Any]:
        inspector = sa.inspect(databases.engine(url))
        return {
            table: {
                "columns": {
                    column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)
                },
                "key": inspector.get_pk_constraint(table)["constrained_columns"],
                "refers": sorted(
                    (key["constrained_columns"], key["referred_table"], key["referred_columns"])
                    for key in inspector.get_foreign_keys(table)
                ),
            }
            for table in databases.TABLES
        }

    ours = shape(template)
    # The one column that is ours in a table of the original: which entry of the ledger a row is.
    assert ours["token_tracking_usage_log"]["columns"].pop("tracking_id")[1]
    assert ours == shape(original_template)


@pytest.mark.parametrize("first", ["original", "ours"])
def test_each_goes_on_with_the_rows_of_the_other(
    first: str, kind: str, original: str, original_template: str, template: str, tmp_path: Path
) -> None:
    made = [priced(PRICE, OTHER), group(), add("ann"), sponsor(), write()]
    looked = [ALL_PRICES, GET, MEMBERS, ALLOWANCES, find(user_id="ann")]
    changed = [change(name="New"), update(new_credit_allowance=1), add("bob"), sponsored("delete", name="course")]
    theirs, ours = (original, original_template), (sys.executable, template)
    (begins, empty), (goes_on, _) = (theirs, ours) if first == "original" else (ours, theirs)
    with databases.fresh(kind, tmp_path, empty) as url:
        seen = performed(begins, {url: [*made, *looked]})[url][len(made) :]
        assert performed(goes_on, {url: [MIGRATE, *looked, *changed]})[url][1 : len(looked) + 1] == seen
        # Prices are kept by ours: what the original writes into its table afterwards stays there.
        assert performed(begins, {url: looked})[url][1:] == performed(goes_on, {url: looked})[url][1:] != seen[1:]
