"""How the modules of this package ask the gateway that knows a database, and which exceptions its refusals become."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol


class Client(Protocol):
    """The part of the synchronous client that is used here."""

    def request(self, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        """The answer's JSON; ``None`` if it has none."""


# What refusals of a status are, as exceptions.
Refusals = Mapping[int, type[Exception]]


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
    from openwebui_token_tracking.child import LocalError, local

    given = {name: value for name, value in (query or {}).items() if value is not None}
    client: Client = local(database_url)
    try:
        return client.request(method, f"/local/{path}", given, body)
    except LocalError as error:
        exception = (refusals or {}).get(error.status)
        if exception is None:
            raise
        raise exception(str(error)) from error


def whole(amount: int | Decimal | None) -> int | Decimal | None:
    """An amount as an integer, unless it has a fraction."""
    if amount is None or isinstance(amount, int):
        return amount
    return int(amount) if amount == amount.to_integral_value() else amount
