"""Fresh databases for the commands of the original and ours."""

import databases
import pytest


@pytest.fixture(scope="session", params=databases.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    name: str = request.param
    return name
