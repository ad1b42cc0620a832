"""A database for one Open WebUI, and a look into it."""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

# The driver that Open WebUI installs; its default for `postgresql://`, psycopg2, is an extra.
DRIVER = "postgresql+psycopg://"
KINDS = ["sqlite", "postgresql"]


@dataclass(frozen=True)
class Database:
    """An address, in the form that Open WebUI and we read, and a folder for the files and logs of those who use it."""

    kind: str
    url: str
    folder: Path

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """What a query finds; its parameters are written `:name`."""
        if self.kind == "sqlite":
            path = self.url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(sql, values)]
        for name in values:
            sql = sql.replace(f":{name}", f"%({name})s")
        with psycopg.connect(self.url.replace(DRIVER, "postgresql://"), row_factory=dict_row) as connection:
            return connection.execute(sql, values).fetchall()


@contextmanager
def fresh_database(kind: str, folder: Path) -> Iterator[Database]:
    """An empty database, in that folder or on the server that `scripts/with-postgres` started."""
    if kind == "sqlite":
        yield Database(kind, f"sqlite:///{folder / 'webui.db'}", folder)
        return
    server = os.environ["OWUI_TEST_POSTGRES"]
    name = f"e2e_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        address = server.rsplit("/", 1)[0].replace("postgresql://", DRIVER)
        yield Database(kind, f"{address}/{name}", folder)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
