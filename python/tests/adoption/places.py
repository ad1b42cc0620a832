"""A database with the original at work on it, and our commands."""

import contextlib
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from programs import PROGRAMS, clean_environment

sys.path.insert(0, str(Path(__file__).parents[1] / "modules"))
import databases

ROOT = Path(__file__).parents[3]
ZONE = "Asia/Kathmandu"
# Its tables with the columns that it knows.
TABLES = {
    "usage_log": [
        "log_date",
        "user_id",
        "provider",
        "model_id",
        "prompt_tokens",
        "response_tokens",
        "sponsored_allowance_id",
    ],
    "model_pricing": [
        "id",
        "provider",
        "name",
        "input_cost_credits",
        "per_input_tokens",
        "output_cost_credits",
        "per_output_tokens",
    ],
    "credit_group": ["id", "name", "max_credit", "description"],
    "credit_group_user": ["credit_group_id", "user_id"],
    "base_settings": ["setting_key", "setting_value", "description"],
    "sponsored_allowance": ["id", "creation_date", "name", "sponsor_id", "total_credit_limit", "daily_credit_limit"],
    "sponsored_allowance_base_models": ["sponsored_allowance_id", "base_model_id"],
}


class Original:
    """The original as a process of its own."""

    def __init__(self, interpreter: str, url: str) -> None:
        program = str(Path(__file__).with_name("original.py"))
        # Its local time is the client's, and PostgreSQL takes it for the session's.
        environment = {**clean_environment(), "TZ": ZONE, "PGTZ": ZONE}
        self.process = subprocess.Popen(
            [interpreter, program, url],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, function: str, **parameters: Any) -> Any:
        """Calls a function of `original.py`."""
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.process.stdin.write(json.dumps([function, parameters]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        self.process.communicate()


class Place:
    """A database, the original, and ours."""

    def __init__(self, kind: str, url: str, folder: Path, interpreter: str) -> None:
        self.kind, self.url, self.folder = kind, url, folder
        self.environment = {**clean_environment(), "DATABASE_URL": url, "TZ": ZONE}
        self.original = Original(interpreter, url)

    def ours(self, *arguments: str, code: int = 0) -> str:
        """What a command of ours says."""
        done = subprocess.run(
            [PROGRAMS / "owui-token-tracking", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.ours(*arguments, "--format", "json", code=code))

    def run(self, *statements: str, rows: list[dict[str, Any]] | None = None) -> None:
        """Statements; `{}` stands for what the names of all tables begin with."""
        with databases.engine(self.url).begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement.replace("{}", "token_tracking_")), rows or {})

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with databases.engine(self.url).connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql.replace("{}", "token_tracking_")))]

    def dump(self) -> dict[str, Counter[str]]:
        """All rows of the original's tables, byte for byte, in the columns that it knows."""
        with databases.engine(self.url).connect() as connection:
            there = {table: self._columns(connection, table) for table in TABLES}
            return {
                table: Counter(repr(tuple(row)) for row in connection.execute(sa.text(_select(self.kind, table, columns))))
                for table, columns in there.items()
                if columns
            }

    def schema(self) -> Any:
        """All tables with their columns and indexes."""
        with warnings.catch_warnings(action="ignore", category=sa.exc.SAWarning), databases.engine(self.url).connect() as connection:
            inspector = sa.inspect(connection)
            return {
                table: (
                    [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
                    sorted(str(index["name"]) for index in inspector.get_indexes(table)),
                )
                for table in sorted(inspector.get_table_names())
            }

    def _columns(self, connection: sa.Connection, table: str) -> list[str]:
        inspector = sa.inspect(connection)
        if not inspector.has_table(f"token_tracking_{table}"):
            return []
        there = {column["name"] for column in inspector.get_columns(f"token_tracking_{table}")}
        return [column for column in TABLES[table] if column in there]


def _select(kind: str, table: str, columns: list[str]) -> str:
    """The values as the database has them; on SQLite with the type under which each is stored."""
    if kind == "sqlite":
        columns = [f"typeof({column}), quote({column})" for column in columns]
    else:
        columns = [f"CAST({column} AS text)" for column in columns]
    return f"SELECT {', '.join(columns)} FROM token_tracking_{table}"


@contextlib.contextmanager
def place(kind: str, folder: Path, interpreter: str) -> Iterator[Place]:
    """A database with users, in the mode in which Open WebUI keeps it; `interpreter` has the original."""
    with databases.fresh(kind, folder) as url:
        if kind == "sqlite":
            with databases.engine(url).connect() as connection:
                connection.execute(sa.text("PRAGMA journal_mode = WAL"))
        made = Place(kind, url, folder, interpreter)
        try:
            yield made
        finally:
            made.original.close()
