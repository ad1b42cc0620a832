"""Fresh databases with Open WebUI's table of users, as it is before this package comes."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

KINDS = ["sqlite", "postgres"]
USERS = [
    ("ann", "Ann", "ann@example.org"),
    ("bob", "Bob", "bob@example.org"),
    # Two of one name.
    ("cid", "Bob", "cid@example.org"),
]
TABLES = [
    "token_tracking_base_settings",
    "token_tracking_credit_group",
    "token_tracking_credit_group_user",
    "token_tracking_model_pricing",
    "token_tracking_sponsored_allowance",
    "token_tracking_sponsored_allowance_base_models",
    "token_tracking_usage_log",
]
USER_TABLE = """CREATE TABLE "user" (
    id VARCHAR(255) NOT NULL PRIMARY KEY, name VARCHAR(255), email VARCHAR(255), role VARCHAR(255)
)"""


@contextlib.contextmanager
def fresh(kind: str, folder: Path, template: str | None = None) -> Iterator[str]:
    """The URL of a new database with three users, or of a copy of another one; dropped afterwards."""
    name = f"modules_{uuid.uuid4().hex}"
    if kind == "sqlite":
        path = folder / f"{name}.db"
        url = f"sqlite:///{path}"
        if template:
            shutil.copyfile(template.removeprefix("sqlite:///"), path)
        else:
            _fill(url)
        yield url
        return
    server = os.environ["OWUI_TEST_POSTGRES"]
    url = sa.make_url(server).set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        of = f' TEMPLATE "{sa.make_url(template).database}"' if template else ""
        connection.execute(f'CREATE DATABASE "{name}"{of}')  # type: ignore[arg-type]
    try:
        if not template:
            _fill(url)
        yield url
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


def engine(url: str) -> sa.Engine:
    """An engine of the tests' own, independent of what they test."""
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)


def effects(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of the original's tables, each id replaced by the name of the row that has it; nothing without tables."""
    with engine(url).connect() as connection:
        if not sa.inspect(connection).has_table(TABLES[0]):
            return {}
        named = {}
        for table in ("token_tracking_credit_group", "token_tracking_sponsored_allowance"):
            for own, name in connection.execute(sa.text(f"SELECT CAST(id AS TEXT), name FROM {table}")):
                named[own.replace("-", "")] = f"id of {name}"
        found = {}
        for table in TABLES:
            rows = [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]
            for row in rows:
                row.pop("creation_date", None)
                for column, value in row.items():
                    row[column] = named.get(str(value).replace("-", ""), value)
            found[table] = sorted(rows, key=str)
    return found


def _fill(url: str) -> None:
    with engine(url).begin() as connection:
        connection.execute(sa.text(USER_TABLE))
        for user, name, email in USERS:
            row = {"id": user, "name": name, "email": email}
            connection.execute(sa.text("INSERT INTO \"user\" VALUES (:id, :name, :email, 'user')"), row)
