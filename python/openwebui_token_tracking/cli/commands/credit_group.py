"""`owui-token-tracking credit-group`."""

from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.cli.command import Command

credit_group = Command("credit-group")
create = Command("credit-group", "create")
get = Command("credit-group", "get")
list = Command("credit-group", "list")
update = Command("credit-group", "update")
delete = Command("credit-group", "delete")
add_user = Command("credit-group", "add-user")
remove_user = Command("credit-group", "remove-user")
list_users = Command("credit-group", "list-users")

if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
