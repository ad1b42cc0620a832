"""A database as `init` leaves it, named by the environment, for what the documentation shows."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from early import early_zone

from openwebui_token_tracking import child, executable

# The databases of the tests of the modules.
sys.path.append(str(Path(__file__).parents[1] / "modules"))
import databases


@pytest.fixture(params=databases.KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its URL."""
    for name in ("DATABASE_TYPE", "DATABASE_SCHEMA", "DATA_DIR", "OWUI_TRACKING_URL", "OWUI_TRACKING_KEY"):
        monkeypatch.delenv(name, raising=False)
    with databases.fresh(request.param, tmp_path) as address:
        monkeypatch.setenv("DATABASE_URL", address)
        executable.run("init", database_url=address)
        executable.run("settings", "set", "timezone", early_zone(), database_url=address)
        yield address
        child.close(address)
        executable.run("verify", database_url=address)
