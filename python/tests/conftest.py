"""Starts what the tests talk to: a simulated model server, and the gateway on each database."""

import fcntl
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from programs import (
    COLUMNS,
    MATRIX,
    MODELS,
    PRICES,
    PROGRAMS,
    ROOT,
    Gateway,
    Process,
    clean_environment,
    finish,
    serve,
)


@pytest.fixture(scope="session")
def original() -> str:
    """An interpreter that has the original. Of several processes of tests that need it, one installs it and the others wait."""
    place = Path(tempfile.gettempdir()) / f"owui-tracking-original-{os.getuid()}.lock"
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([ROOT / "scripts" / "original-environment"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"the original can't be installed here: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The base URL of a simulated model server."""
    process = Process([str(PROGRAMS / "simulated-provider")], dict(os.environ))
    yield f"{process.url}/v1"
    process.stop()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def gateway(request, provider: str, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway on a fresh database, with prices for three models."""
    folder = tmp_path_factory.mktemp("gateway")
    environment = clean_environment()
    schema = None
    if request.param == "sqlite":
        environment["DATABASE_URL"] = f"sqlite:///{folder / 'tracking.db'}"
    else:
        server = os.environ["OWUI_TEST_POSTGRES"]
        schema = f"python_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"')
        environment["DATABASE_URL"] = server
        environment["DATABASE_SCHEMA"] = schema
    running = Gateway("", environment)
    table = f"""
[[provider]]
name = "openai"
kind = "openai"
base_url = "{provider}"
api_key = "a-provider-key"
"""
    process = serve(running, folder, MODELS, table, {})
    yield running
    finish(running, process)
    if schema is not None:
        with psycopg.connect(os.environ["OWUI_TEST_POSTGRES"], autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


@pytest.fixture(scope="session")
def everywhere(provider: str, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway in front of every kind of provider, each with prices for its models."""
    folder = tmp_path_factory.mktemp("everywhere")
    running = Gateway("", {**clean_environment(), "DATABASE_URL": f"sqlite:///{folder / 'tracking.db'}"})
    root = provider.removesuffix("/v1")
    providers, models = {}, {}
    for column in COLUMNS:
        providers[column.kind] = (
            f'[[provider]]\nname = "{column.kind}"\nkind = "{column.kind}"\nbase_url = "{root}/{column.path}"\n'
            'api_key = "a-provider-key"\n'
        )
        for model in (column.chat, column.embedding):
            costs = {f"{name}_cost_credits": credits for name, credits in PRICES.items()}
            models[column.kind, model] = {
                "id": model,
                "provider": column.kind,
                "name": model,
                "per_input_tokens": 1000000,
                "per_output_tokens": 1000000,
                "max_output_tokens": 16000,
                **costs,
            }
    settings = {"base_credit_allowance": "1000000"}
    process = serve(running, folder, list(models.values()), "".join(providers.values()), settings)
    yield running
    finish(running, process)


def pytest_sessionfinish(session) -> None:
    """A process of several hands over what it saw."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["features"] = MATRIX


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Takes over what a process of several saw."""
    for feature, cells in getattr(node, "workeroutput", {}).get("features", {}).items():
        MATRIX.setdefault(feature, {}).update(cells)


def pytest_terminal_summary(terminalreporter) -> None:
    """Prints what each provider can do through us. What is not a plain yes or no is spelled out below the table."""
    if not MATRIX:
        return
    terminalreporter.section("features by provider")
    names = [column.name for column in COLUMNS]
    first = max(len(feature) for feature in MATRIX)
    notes: list[str] = []
    terminalreporter.write_line(" ".join([" " * first, *names]))
    for feature, cells in MATRIX.items():
        row = [feature.ljust(first)]
        for name in names:
            cell = cells.get(name, "")
            kind, _, what = cell.partition(": ")
            if what:
                if cell not in notes:
                    notes.append(cell)
                kind = f"{kind[:3]}.{notes.index(cell) + 1}"
            row.append(kind.ljust(len(name)))
        terminalreporter.write_line(" ".join(row).rstrip())
    for number, note in enumerate(notes, 1):
        terminalreporter.write_line(f"{note[:3]}.{number}  {note}")
