"""Databases on which the real original works: on each kind, in each of its states."""

from collections.abc import Iterator
from pathlib import Path

import places
import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, original: str) -> Iterator[places.Place]:
    """A fresh database with users, the original, and ours."""
    with places.place(request.param, tmp_path, original) as made:
        yield made
