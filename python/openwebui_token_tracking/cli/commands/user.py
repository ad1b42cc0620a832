"""`owui-token-tracking user`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

user = Command("user")
find = Command("user", "find")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
