"""`owui-token-tracking pricing`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

pricing = Command("pricing")
list_pricing = Command("pricing", "list")
get_pricing = Command("pricing", "get")
update_pricing = Command("pricing", "update")
upsert_pricing = Command("pricing", "upsert")
delete_pricing = Command("pricing", "delete")
add_pricing = Command("pricing", "add")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
