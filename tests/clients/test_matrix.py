"""Every client as it is installed: what it does at a gateway, and what its user sees when the gateway refuses."""

import os
from pathlib import Path
from typing import Any

import pytest
from books import Upstream, charged, produced
from clients import CELLS, CLIENTS, HERE, Client
from place import Place
from running import CELL, Outcome, outcomes
from table import Row, parsed

LIMIT = "credit limit is reached"
KEY = "This key is not valid, has expired or was revoked."
# What each cell asks, and what the answer to it must be.
ASKED = {
    "plain": ("Say something. [[sim input=1000 output=7]]", "The answer to this question is simple"),
    "stream": ("Say something. [[sim input=500 output=9]]", "The answer to this question is simple enough to"),
    "tools": ("How is the weather in Bern? [[sim tool=1 input=400 output=12]]", "The answer to this question"),
    "structured": ("Which city? [[sim input=200 output=10]]", "Bern"),
    "embeddings": ("A text. [[sim input=100]]", "0.5 0.25"),
    "limit": ("Say something. [[sim input=1000 output=7]]", LIMIT),
    "key": ("Say something. [[sim input=1000 output=7]]", KEY),
}
# What the tool says, and so what the model is asked next.
RESULT = "[[sim input=300 output=5]]"
RAIN = "It rains in Bern."


def parameters() -> list[Any]:
    return [pytest.param(one, id=one.title, marks=[pytest.mark.quick] if one.quick else []) for one in CLIENTS]


@pytest.mark.parametrize("client", parameters())
def test_client(client: Client, place: Place, upstream: Upstream, matrix: dict[str, Row], tmp_path: Path) -> None:
    user, key = place.new_user()
    keys = {"limit": place.spent_key, "key": "sk-wrong-0123456789abcdef"}
    tasks = [
        {"cell": cell, "key": keys.get(cell, key), "ask": ASKED[cell][0], "result": RESULT}
        for cell in CELLS
        if cell not in client.without
    ]
    upstream.new()
    place.outside.asked.clear()
    row = {cell: f"n/a: {reason}" for cell, reason in client.without.items()}
    row |= found(client, place, tmp_path, tasks)
    if client.reads_numbers and row["limit"] != "ok":
        row |= found(client, place, tmp_path, [task for task in tasks if task["cell"] == "limit"])
    requests = upstream.new()
    if row.get("tools") == "ok" and not any(RAIN in str(one["body"]) for one in requests):
        row["tools"] = "differs: the result of the tool did not reach the model"
    matrix[client.title] = row
    assert charged(place.gateway, user) == produced(requests)
    place.gateway.run("verify")
    asked = {line.split()[1] for line in place.outside.asked}
    assert asked <= client.asks, "it asked for something outside"
    if "UPDATE_MATRIX" not in os.environ:
        assert row == parsed((HERE / "matrix.txt").read_text()).get(client.title), "UPDATE_MATRIX=1 writes it anew"


def found(client: Client, place: Place, home: Path, tasks: list[dict[str, str]]) -> Row:
    """The cells of these tasks."""
    surroundings = {**place.surroundings, **client.switches}
    came = outcomes(client, home, place.environments, surroundings, place.job(client, tasks))
    return {cell: judged(cell, outcome) for cell, outcome in came}


def judged(cell: str, outcome: Outcome) -> str:
    """The cell of the matrix for what came of it."""
    wanted = ASKED[cell][1]
    shown = " ".join(outcome.shown.split())
    if outcome.ended:
        said = "with our sentence on the screen" if wanted in shown else "without a word of it"
        return f"differs: it goes on trying after {CELL} seconds, {said}"
    if cell in ("limit", "key"):
        return "ok" if wanted in shown else f"differs: {short(outcome.shown)}"
    if outcome.failed or shown != wanted:
        return f"differs: {short(outcome.shown)}"
    return "ok"


def short(text: str) -> str:
    """What the last line of a text says."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing"
