"""Connections to the database, and its migration."""

import importlib.util
import os
from typing import TYPE_CHECKING

import sqlalchemy as sa

from openwebui_token_tracking._original import answer_for

# SQLAlchemy's names of drivers that only work with asyncio, and of ways to write the database's kind.
_SYNCHRONOUS = {
    "postgres": "postgresql",
    "postgresql+asyncpg": "postgresql",
    "postgresql+psycopg_async": "postgresql+psycopg",
    "sqlite+aiosqlite": "sqlite",
}


def init_db(database_url: str) -> sa.Engine:
    """An engine for that database. Makes no tables: :func:`migrate_database` does.

    For PostgreSQL it uses whichever driver is installed, psycopg (as Open WebUI does) or psycopg2, unless the URL names
    one. The schema named by ``DATABASE_SCHEMA`` applies to all classes of this package.

    :param database_url: a URL as in Open WebUI's ``DATABASE_URL``
    :raises sqlalchemy.exc.ArgumentError: if it is no URL
    """
    url = sa.make_url(database_url)
    driver = _SYNCHRONOUS.get(url.drivername, url.drivername)
    if driver == "postgresql":
        installed = (name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name))
        driver = f"postgresql+{next(installed, 'psycopg')}"
    engine = sa.create_engine(url.set(drivername=driver))
    schema = os.environ.get("DATABASE_SCHEMA")
    if schema and driver.startswith("postgresql"):
        # Without session state, so that poolers between us and the database do no harm.
        engine = engine.execution_options(schema_translate_map={None: schema})
    return engine


def migrate_database(database_url: str) -> None:
    """Brings the tables to the version that this package needs, as ``owui-token-tracking database migrate`` does.

    Safe to repeat; keeps every row. Prices and settings to begin with are ``owui-token-tracking init``'s.

    :param database_url: a URL as in Open WebUI's ``DATABASE_URL``
    :raises RuntimeError: if it can't be done, with the reason and what to do
    """
    from openwebui_token_tracking.executable import run

    run("database", "migrate", database_url=database_url)


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
