"""The real original at work on one database: run by the interpreter of `scripts/original-environment`.

`original.py URL`. Standard input: one JSON list `[function, {parameter: value}]` on each line; the answer to each is one line of
JSON as well.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

PACKAGE = "openwebui_token_tracking"
URL = sys.argv[1]


def module(name: str) -> Any:
    """A module of the original."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def upgrade(revision: str) -> None:
    """Its own migrations up to one of them."""
    package = importlib.import_module(PACKAGE)
    config = Config()
    config.set_main_option("script_location", str(Path(package.__file__).parent / "migrations/alembic"))
    config.set_main_option("sqlalchemy.url", URL)
    command.upgrade(config, revision)


def migrate() -> None:
    """Its own command."""
    module("db").migrate_database(URL)


def log(times: int, **usage: Any) -> None:
    """What its pipes do behind each request."""
    for _ in range(times):
        tracker().log_token_usage(**usage)


def remaining(user: str, sponsored: str | None = None) -> list[int | None]:
    """What its pipes ask before each request."""
    return list(tracker().remaining_credits({"id": user}, sponsored))


def price(model_id: str, provider: str, **updates: Any) -> None:
    """A price is edited by its own function."""
    module("model_pricing").update_model_pricing(URL, model_id, provider, updates)


_trackers: list[Any] = []


def tracker() -> Any:
    if not _trackers:
        _trackers.append(module("tracking").TokenTracker(URL))
    return _trackers[0]


if __name__ == "__main__":
    for line in sys.stdin:
        function, parameters = json.loads(line)
        result = {"upgrade": upgrade, "migrate": migrate, "log": log, "remaining": remaining, "price": price}[function](
            **parameters
        )
        print(json.dumps(result), flush=True)
