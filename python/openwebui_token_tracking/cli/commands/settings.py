"""`owui-token-tracking settings`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

settings = Command("settings")
init = Command("settings", "init")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
