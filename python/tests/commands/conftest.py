"""The original, and fresh databases for its commands and ours."""

import subprocess
from pathlib import Path

import databases
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session", params=databases.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def original() -> str:
    """An interpreter that has the original."""
    done = subprocess.run([ROOT / "scripts" / "original-environment"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"the original can't be installed here: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()
