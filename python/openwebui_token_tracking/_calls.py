"""How the modules of this package ask the gateway that knows a database, and which exceptions its refusals become."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from openwebui_token_tracking.errors import LocalError

# What a refusal is, as an exception: by its code first, then by its status.
Refusals = Mapping[str | int, type[Exception]]


def call(
    database_url: str | None,
    method: str,
    path: str,
    query: Mapping[str, str | None] | None = None,
    body: object = None,
    refusals: Refusals | None = None,
) -> Any:
    """One call. Parameters of the query that are ``None`` are left out.

    :param database_url: the database; ``None`` for the one that the environment names
    :param refusals: the exceptions for refusals; any other refusal stays what the client raises
    """
    from openwebui_token_tracking.child import local

    given = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        return local(database_url).request(method, f"/local/{path}", given, body)
    except LocalError as error:
        known = refusals or {}
        exception = known.get(error.code or "") or known.get(error.status)
        if exception is None:
            raise
        raise exception(str(error)) from error


def whole(amount: int | Decimal | None) -> int | Decimal | None:
    """An amount as an integer, unless it has a fraction."""
    if amount is None or isinstance(amount, int):
        return amount
    return int(amount) if amount == amount.to_integral_value() else amount
