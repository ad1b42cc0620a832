"""Installs the clients, starts a simulated model server and a gateway, and prints the matrix."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from books import MILLION, PRICES, Upstream
from clients import CLIENTS, HERE
from place import Outside, Place
from programs import PROGRAMS, ROOT, Gateway, Process, clean_environment, finish, serve
from table import Row, parsed, text

MATRIX: dict[str, Row] = {}
PROVIDERS = """
[[provider]]
name = "openai"
kind = "openai"
base_url = "{0}/v1"
api_key = "a-provider-key"

[[provider]]
name = "anthropic"
kind = "anthropic"
base_url = "{0}/anthropic"
api_key = "a-provider-key"
"""


@pytest.fixture(scope="session")
def environments(request: pytest.FixtureRequest) -> Path:
    """The folder with the environments of the clients that are asked for. Of several processes one installs, the others wait."""
    items: list[Any] = request.session.items
    needed = sorted({item.callspec.params["client"].environment for item in items})
    place = Path(tempfile.gettempdir()) / f"owui-tracking-clients-{os.getuid()}.lock"
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([ROOT / "scripts/client-environments", *needed], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, "the clients can't be installed"
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    """The address of a simulated model server."""
    process = Process([str(PROGRAMS / "simulated-provider")], dict(os.environ))
    yield process.url
    process.stop()


@pytest.fixture(scope="session")
def upstream(simulator: str) -> Upstream:
    return Upstream(simulator)


@pytest.fixture(scope="session")
def place(simulator: str, environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("gateway")
    running = Gateway("", {**clean_environment(), "DATABASE_URL": f"sqlite:///{folder / 'tracking.db'}"})
    models = [
        {
            "id": model,
            "provider": "anthropic" if model.startswith("claude") else "openai",
            "name": model,
            "input_cost_credits": for_input,
            "per_input_tokens": MILLION,
            "output_cost_credits": for_output,
            "per_output_tokens": MILLION,
        }
        for model, (for_input, for_output) in PRICES.items()
    ]
    settings = {"base_credit_allowance": "1000000"}
    process = serve(running, folder, models, PROVIDERS.format(simulator), settings)
    outside = Outside()
    yield Place(running, environments, outside)
    outside.close()
    finish(running, process)


@pytest.fixture
def matrix() -> dict[str, Row]:
    """Takes what is found."""
    return MATRIX


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several hands over what it saw."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["matrix"] = MATRIX


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Takes over what a process of several saw."""
    MATRIX.update(getattr(node, "workeroutput", {}).get("matrix", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the matrix, and writes it where that is wanted."""
    if not MATRIX:
        return
    terminalreporter.section("clients")
    titles = [client.title for client in CLIENTS]
    terminalreporter.write_line(text({title: MATRIX[title] for title in titles if title in MATRIX}))
    if "UPDATE_MATRIX" in os.environ:
        place = HERE / "matrix.txt"
        known = parsed(place.read_text()) if place.exists() else {}
        rows = {**known, **MATRIX}
        place.write_text(text({title: rows[title] for title in titles if title in rows}))
