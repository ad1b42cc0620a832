"""The transcript of a first session is what happens: each of its commands is typed again, and says the same.

`scripts/record-session` makes the page anew.
"""

from pathlib import Path

import databases
import session
import sqlalchemy as sa

PAGE = Path(__file__).parents[2] / "docs" / "source" / "first-session.md"
PEOPLE = [
    ("8e1f4a", "Carla Admin", "carla@example.org", "admin"),
    ("3b9c27", "Ann Miller", "ann@example.org", "user"),
    ("d04e58", "Bob Smith", "bob@example.org", "user"),
]


def furnish(folder: Path) -> None:
    """A database of Open WebUI's, as far as this session goes: its users."""
    with databases.engine(f"sqlite:///{folder / 'webui.db'}").begin() as connection:
        connection.execute(sa.text(databases.USER_TABLE))
        for identity, name, email, role in PEOPLE:
            row = {"id": identity, "name": name, "email": email, "role": role}
            connection.execute(sa.text('INSERT INTO "user" VALUES (:id, :name, :email, :role)'), row)


def test_the_transcript_is_what_happens(provider: str, tmp_path: Path) -> None:
    furnish(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    assert session.replayed(page, tmp_path, provider) == page
    typed = [command for block in session.BLOCK.findall(page) for command in session.commands(block)]
    for part in ("pip install", "init", "credit-group create", "sponsored create", "curl", "balance", "report", "verify"):
        assert any(part in command for command in typed), part
