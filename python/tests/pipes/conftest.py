"""A stage on each kind of database, a simulated model server, and asynchronous tests, each in an event loop of its own."""

import asyncio
import inspect
import os
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from stage import Stage

from openwebui_token_tracking import child

# Seconds for one test: none can hang.
LONGEST = 90


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        async with asyncio.timeout(LONGEST):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def stages(request: pytest.FixtureRequest, provider: str, tmp_path_factory: Any) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("pipes")
    root = provider.removesuffix("/v1")
    if request.param == "sqlite":
        stage = Stage.built(f"sqlite:///{folder / 'webui.db'}", root, folder)
        yield stage
        finish(stage)
        return
    server, name = os.environ["OWUI_TEST_POSTGRES"], f"pipes_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = sa.make_url(server).set(drivername="postgresql", database=name)
    stage = Stage.built(url.render_as_string(hide_password=False), root, folder)
    yield stage
    finish(stage)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def finish(stage: Stage) -> None:
    """Nothing stays set aside, and every account agrees with the ledger."""
    child.close(stage.url)
    assert stage.held() == 0
    stage.command("verify")


@pytest.fixture
def stage(stages: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage as the environment names it, as Open WebUI's environment does."""
    ours = ("OWUI_TRACKING_URL", "OWUI_TRACKING_KEY", "TOKEN_CREDIT_CONTACT_EMAIL", "FORWARD_USER_INFO_HEADER_JWT_SECRET")
    for name in ("DATABASE_SCHEMA", "DATA_DIR", *ours):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", stages.url)
    return stages
