"""`owui-token-tracking database`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

database = Command("database")
migrate = Command("database", "migrate")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
