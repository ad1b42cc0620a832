"""Fresh databases of each kind with our tables, for the modules to work on."""

from collections.abc import Iterator
from pathlib import Path

import databases
import pytest

from openwebui_token_tracking import child
from openwebui_token_tracking.db import migrate_database


@pytest.fixture(scope="session", params=databases.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True, scope="session")
def environment() -> Iterator[None]:
    """Nothing around the tests names a database or a gateway."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "DATABASE_TYPE", "DATABASE_SCHEMA", "DATA_DIR", "OWUI_TRACKING_URL"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def template(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with Open WebUI's users and our tables, and without prices."""
    with databases.fresh(kind, tmp_path_factory.mktemp("template")) as address:
        migrate_database(address)
        yield address


@pytest.fixture
def url(kind: str, template: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a copy of it."""
    with databases.fresh(kind, tmp_path, template) as address:
        yield address
        child.close(address)
