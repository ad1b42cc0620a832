"""`owui-token-tracking sponsored`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

sponsored = Command("sponsored")
create_sponsored_allowance = Command("sponsored", "create")
delete_sponsored = Command("sponsored", "delete")
list_sponsored = Command("sponsored", "list")
update_sponsored = Command("sponsored", "update")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
