"""Databases on which the real original works: on each kind, in each of its states."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import places
import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[places.Place]:
    """A fresh database with users, the original, and ours."""
    with places.place(request.param, tmp_path) as made:
        yield made


@pytest.fixture(autouse=True, scope="session")
def interpreter() -> None:
    """The interpreter with the original."""
    if "OWUI_TEST_ORIGINAL_PYTHON" not in os.environ:
        script = places.ROOT / "scripts/original-environment"
        made = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        os.environ["OWUI_TEST_ORIGINAL_PYTHON"] = made
