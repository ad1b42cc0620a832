"""A fresh database of each kind with our tables, for the modules to work on."""

from collections.abc import Iterator
from pathlib import Path

import databases
import pytest

from openwebui_token_tracking import child
from openwebui_token_tracking.db import migrate_database


@pytest.fixture(params=databases.KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database with Open WebUI's users and our tables, and without prices."""
    for name in ("DATABASE_URL", "DATABASE_SCHEMA", "DATA_DIR", "OWUI_TRACKING_URL"):
        monkeypatch.delenv(name, raising=False)
    with databases.fresh(request.param, tmp_path) as address:
        migrate_database(address)
        yield address
        child.close(address)
