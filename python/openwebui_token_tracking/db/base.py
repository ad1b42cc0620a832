"""What the declarative classes share: their base, and ids that SQLite keeps as they are."""

import re
import uuid
from typing import TYPE_CHECKING

from sqlalchemy.orm import DeclarativeBase

from openwebui_token_tracking._original import answer_for

# What SQLite's columns of the type UUID would turn into a number: digits, or digits with one exponent.
_NUMBER = re.compile(r"[0-9]+(e[0-9]+)?")


class Base(DeclarativeBase):
    """The base of the classes over the tables that 0.1 introduced."""


class Own(DeclarativeBase):
    """The base of the classes over other tables of this package. Only its migrations make them: ``create_all`` must not."""


def new_id() -> uuid.UUID:
    """A random id. One that reads as a number is drawn again, because SQLite would store it as that number."""
    drawn = uuid.uuid4()
    while _NUMBER.fullmatch(drawn.hex):
        drawn = uuid.uuid4()
    return drawn


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
