"""Prices. A change makes a new version: what was charged at the old one stays.

Costs are credits, as ``int``, or as ``Decimal`` where there is a fraction. Providers are found in any case. In every
function ``database_url`` is the database's URL as in Open WebUI's ``DATABASE_URL``; ``None`` is the database that the
environment names.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openwebui_token_tracking._calls import Refusals, call, whole
from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.models import ModelPricingSchema

_FIELDS = tuple(ModelPricingSchema.model_fields)
# What an update may change; the others are the price's name.
_CHANGEABLE = frozenset(_FIELDS) - {"provider", "id"}
_REFUSALS: Refusals = {400: ValueError, 409: ValueError}


def get_model_pricing(
    database_url: str | None, model_id: str | None = None, provider: str | None = None
) -> list[dict[str, Any]]:
    """The prices of a model, one for each provider.

    :param model_id: the provider's id of the model; ``None`` for all
    :param provider: only at this provider
    :return: the fields of :class:`~openwebui_token_tracking.models.ModelPricingSchema` of each; empty if there is none
    """
    return [_described(price) for price in _prices(database_url, model_id, provider)]


def list_model_pricing(database_url: str | None, provider: str | None = None) -> list[dict[str, Any]]:
    """All prices, or those of one provider, as :func:`get_model_pricing` describes them."""
    return get_model_pricing(database_url, provider=provider)


def add_model_pricing(database_url: str | None, model_pricing: Iterable[ModelPricingSchema]) -> None:
    """Adds the prices of new models: all or none.

    :raises ValueError: if one of the models has a price already, or one of the prices is invalid
    """
    prices = [price.model_dump() for price in model_pricing]
    _write(database_url, prices, "add", {**_REFUSALS, 404: ValueError})


def update_model_pricing(database_url: str | None, model_id: str, provider: str, updates: Mapping[str, Any]) -> bool:
    """Changes the price of a model.

    :param updates: new values of ``name``, ``input_cost_credits``, ``per_input_tokens``, ``output_cost_credits``,
        ``per_output_tokens``; others are ignored
    :return: whether there was such a price, and something to change
    :raises ValueError: if the new price is invalid
    """
    changes = {field: value for field, value in updates.items() if field in _CHANGEABLE}
    if not changes:
        return False
    price = {"id": model_id, "provider": provider, **changes}
    try:
        _write(database_url, [price], "update", {**_REFUSALS, 404: LookupError})
    except LookupError:
        return False
    return True


def upsert_model_pricing(
    database_url: str | None,
    provider: str,
    model_id: str,
    name: str,
    input_cost_credits: int | Decimal,
    per_input_tokens: int,
    output_cost_credits: int | Decimal,
    per_output_tokens: int,
) -> bool:
    """Adds the price of a model, or replaces the one that it has.

    :param input_cost_credits: credits for ``per_input_tokens`` tokens
    :param output_cost_credits: credits for ``per_output_tokens`` tokens
    :return: ``True``
    :raises ValueError: if the price is invalid
    """
    price = {
        "provider": provider,
        "id": model_id,
        "name": name,
        "input_cost_credits": input_cost_credits,
        "per_input_tokens": per_input_tokens,
        "output_cost_credits": output_cost_credits,
        "per_output_tokens": per_output_tokens,
    }
    _write(database_url, [price], "upsert", _REFUSALS)
    return True


def delete_model_pricing(database_url: str | None, model_id: str, provider: str | None = None) -> bool:
    """Deletes the price of a model. Charges made at it stay.

    :param provider: only at this provider; ``None`` for all
    :return: whether there was one
    :raises ValueError: if a sponsored allowance covers the model
    """
    query = {"model": model_id, "provider": provider}
    try:
        call(database_url, "DELETE", "prices", query, refusals={**_REFUSALS, 404: LookupError})
    except LookupError:
        return False
    return True


def _prices(database_url: str | None, model_id: str | None, provider: str | None) -> list[dict[str, Any]]:
    query = {"model": model_id or None, "provider": provider or None}
    found: list[dict[str, Any]] = call(database_url, "GET", "prices", query)["prices"]
    return found


def _write(database_url: str | None, prices: Iterable[Mapping[str, Any]], how: str, refusals: Refusals) -> None:
    written = [{field: _written(value) for field, value in price.items()} for price in prices]
    call(database_url, "PUT", "prices", body={"prices": written, "how": how}, refusals=refusals)


def _written(value: Any) -> Any:
    """An amount as it is written: the client would give a small binary fraction an exponent."""
    return Decimal(str(value)) if isinstance(value, float) else value


def _described(price: dict[str, Any]) -> dict[str, Any]:
    described = {field: price[field] for field in _FIELDS}
    for cost in ("input_cost_credits", "output_cost_credits"):
        described[cost] = whole(described[cost])
    return described


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
