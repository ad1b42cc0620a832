"""The line below an answer that says what it cost."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from openwebui_token_tracking import asynchronous
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.tracking import is_allowance

logger = logging.getLogger(__name__)

Emitter = Callable[[dict[str, Any]], Awaitable[object]]


def amount(credits: Decimal | int | float) -> str:
    """Credits for people: two decimals, more where that would show nothing."""
    exact = Decimal(str(credits))
    for places in ("0.01", "0.0001", "0.000001"):
        rounded = exact.quantize(Decimal(places), ROUND_HALF_UP)
        if rounded or not exact:
            break
    text = format(rounded, ",f")
    return text.rstrip("0").rstrip(".") if "." in text else text


async def show(emitter: Emitter, description: str, done: bool = True) -> None:
    """Shows a status line. Nothing depends on it: what goes wrong is logged."""
    try:
        await emitter({"type": "status", "data": {"description": description, "done": done}})
    except Exception:
        logger.warning("the status line could not be shown", exc_info=True)


async def show_credits(emitter: Emitter, gateway: Gateway, call: Call, bill: Mapping[str, Any]) -> None:
    """Says what the answer cost, what is left, and when that is reset."""
    text = f"{amount(bill['credits'])} credits used"
    remaining = bill.get("credits_remaining")
    if remaining is not None:
        text += f", {amount(max(remaining, 0))} left"
        try:
            balance = await asynchronous.call(gateway, "GET", "/local/balance", {"user": str(call.user["id"])})
        except LocalError as error:
            logger.warning("the time of the next reset could not be read: %s", error)
        else:
            text += _where(balance, call.sponsored_allowance_name)
    await show(emitter, text)


def _where(balance: Mapping[str, Any], sponsored: str | None) -> str:
    """Of which allowance that is left, and until when. A total is never reset."""
    if sponsored is None:
        return f" until {balance['tightest']['resets_text']}"
    for one in balance["sponsored"]:
        if is_allowance(one["name"], sponsored):
            return f" of {one['name']}" + (f" until {balance['resets_text']}" if one["daily"] is not None else "")
    return f" of {sponsored}"
