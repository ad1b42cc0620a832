"""A model server that says each case's bytes, and the gateway in front of it."""

from collections.abc import Iterator

import pytest
from cases import Case, cases
from programs import Gateway, clean_environment, finish, serve
from raw_server import RawServer


@pytest.fixture(scope="session")
def server() -> Iterator[RawServer]:
    """Answers the requests for each case's model with its bytes."""
    with RawServer() as running:
        running.answers = {case.model: case.answer for case in cases()}
        yield running


@pytest.fixture(scope="session")
def behind(server: RawServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that has the server as a provider of each kind."""
    folder = tmp_path_factory.mktemp("clients")
    running = Gateway("", {**clean_environment(), "DATABASE_URL": f"sqlite:///{folder / 'tracking.db'}"})
    providers = "".join(table(case, server.url) for case in {case.kind: case for case in cases()}.values())
    settings = {"base_credit_allowance": "1000000"}
    process = serve(running, folder, [case.entry() for case in cases()], providers, settings)
    yield running
    finish(running, process)


def table(case: Case, url: str) -> str:
    """The server as a provider of that kind."""
    base_url = url if case.kind in ("anthropic", "google", "ollama") else f"{url}/v1"
    return (
        f'[[provider]]\nname = "{case.provider}"\nkind = "{case.kind}"\nbase_url = "{base_url}"\napi_key = "a-provider-key"\n'
    )
