"""Sponsored allowances: credits that a sponsor grants for some models, in all and for each user and day.

In every function ``database_url`` is the database's URL as in Open WebUI's ``DATABASE_URL``; ``None`` is the database that
the environment names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from openwebui_token_tracking._calls import Refusals, call, whole
from openwebui_token_tracking._original import answer_for

_PATH = "sponsored"
_REFUSALS: Refusals = {400: ValueError, 404: ValueError, 409: ValueError}


@dataclass(frozen=True)
class SponsoredAllowanceBaseModels:
    """A model that an allowance covers."""

    sponsored_allowance_id: UUID
    base_model_id: str
    """The id that the model has in the price table."""


def create_sponsored_allowance(
    database_url: str | None,
    sponsor_id: str,
    name: str,
    models: Iterable[str],
    total_credit_limit: int,
    daily_credit_limit: int | None,
) -> None:
    """Makes an allowance.

    :param sponsor_id: who grants it
    :param name: what names of its workspace models begin with, before ``---``
    :param models: the ids of the models that it covers; each needs a price
    :param total_credit_limit: credits over all users, for ever
    :param daily_credit_limit: credits for each user and day; ``None`` for no limit
    :raises ValueError: if there is an allowance of that name, a model has no price, or a limit is invalid
    """
    body = {
        "sponsor_id": sponsor_id,
        "name": name,
        "models": list(models),
        "total_credit_limit": total_credit_limit,
        "daily_credit_limit": daily_credit_limit,
    }
    call(database_url, "POST", _PATH, body=body, refusals=_REFUSALS)


def delete_sponsored_allowance(
    database_url: str | None = None,
    allowance_id: str | UUID | None = None,
    name: str | None = None,
) -> None:
    """Deletes the allowance with that id or, if none is given, that name. What was charged to it stays.

    :raises ValueError: if neither is given, or there is no such allowance
    """
    call(database_url, "DELETE", _PATH, _named(allowance_id, name), refusals=_REFUSALS)


def get_sponsored_allowance(
    database_url: str | None = None,
    name: str | None = None,
    id: str | UUID | None = None,
) -> dict[str, Any]:
    """The allowance with that name and id.

    :return: its ``id``, ``name``, ``sponsor_id``, ``total_credit_limit``, ``daily_credit_limit`` and ``base_models``, a
        list of :class:`SponsoredAllowanceBaseModels`
    :raises KeyError: if there is no such allowance
    :raises ValueError: if neither is given
    """
    if name is None and id is None:
        raise ValueError("name the sponsored allowance, or give its id")
    for allowance in get_sponsored_allowances(database_url):
        if name in (None, allowance["name"]) and id in (None, allowance["id"], UUID(allowance["id"])):
            return allowance
    raise KeyError(f"there is no sponsored allowance {name or id}")


def get_sponsored_allowances(
    database_url: str | None = None,
    sponsor_id: str | None = None,
) -> list[dict[str, Any]]:
    """All allowances by name, or those of one sponsor, as :func:`get_sponsored_allowance` describes them."""
    found = [_described(allowance) for allowance in call(database_url, "GET", _PATH)["sponsored"]]
    granted = [allowance for allowance in found if sponsor_id in (None, allowance["sponsor_id"])]
    return sorted(granted, key=lambda allowance: str(allowance["name"]))


def update_sponsored_allowance(
    database_url: str | None = None,
    allowance_id: str | UUID | None = None,
    name: str | None = None,
    new_name: str | None = None,
    sponsor_id: str | None = None,
    models: Iterable[str] | None = None,
    total_credit_limit: int | None = None,
    daily_credit_limit: int | None = None,
) -> None:
    """Changes the allowance with that id or, if none is given, that name; what else is not given stays.

    :raises ValueError: if neither id nor name is given, there is no such allowance, a model has no price, or a limit is
        invalid
    """
    changes = {
        "new_name": new_name,
        "sponsor_id": sponsor_id,
        "models": None if models is None else list(models),
        "total_credit_limit": total_credit_limit,
        "daily_credit_limit": daily_credit_limit,
    }
    body = {field: value for field, value in changes.items() if value is not None}
    call(database_url, "PATCH", _PATH, body={**body, **_named(allowance_id, name)}, refusals=_REFUSALS)


def _named(allowance_id: str | UUID | None, name: str | None) -> dict[str, str]:
    if allowance_id is not None:
        return {"id": str(allowance_id)}
    if name is not None:
        return {"name": name}
    raise ValueError("name the sponsored allowance, or give its id")


def _described(entry: dict[str, Any]) -> dict[str, Any]:
    own = UUID(entry["id"])
    return {
        "id": str(own),
        "name": entry["name"],
        "sponsor_id": entry["sponsor_id"],
        "total_credit_limit": whole(entry["total_credit_limit"]),
        "daily_credit_limit": whole(entry["daily_credit_limit"]),
        "base_models": [SponsoredAllowanceBaseModels(own, model) for model in entry["models"]],
    }


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
