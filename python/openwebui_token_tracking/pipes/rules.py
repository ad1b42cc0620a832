"""The rules of a tracker, before a request is sent and after it was charged. Only what a subclass overrides is called."""

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from openwebui_token_tracking import asynchronous, threads
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import (
    DailyTokenLimitExceededError,
    LocalError,
    RequestError,
    TotalTokenLimitExceededError,
)
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.tracking import CHARGED, ModelRequest, TokenTracker

# `_check_limits` of a pipe, with the arguments that 0.1 gave it.
Check = Callable[..., object]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# As good as no limit, in credits.
_LIMITLESS = Decimal(10) ** 12
_MICROCREDIT = Decimal("0.000001")
# Seconds for which the gateway waits for a request's charge.
_CHARGE = 30

# Tasks that outlive the call that began them; the loop itself keeps no reference to them.
_background: set[asyncio.Task[Any]] = set()


# What a tracker says about what remains.
_REMAINING = ("remaining_credits", "_remaining_user_credits", "_remaining_sponsored_credits")
_GATES = ("admit", "is_paid", "max_credits", *_REMAINING)
# Set by `check_limits`: the `_check_limits` of a subclass has asked it.
_is_checked: contextvars.ContextVar[bool] = contextvars.ContextVar("is_checked", default=False)


def overridden(tracker: object, *names: str) -> bool:
    """Whether the tracker has a rule of its own in one of these places. One that is no ``TokenTracker`` has only its own."""
    for name in names:
        written = getattr(type(tracker), name, None)
        if name in vars(tracker) or (written is not None and written is not getattr(TokenTracker, name)):
            return True
    return False


async def pass_gates(
    tracker: TokenTracker, call: Call, body: Mapping[str, Any], check: Check | None = None
) -> Decimal | None:
    """Asks the tracker. Returns what replaces the user's own daily limit, in credits.

    :param check: asked in place of what the tracker says of what remains
    :raises TokenLimitExceededError: if it says that nothing remains
    :raises Exception: whatever its ``admit`` raises
    """
    if check is None and not overridden(tracker, *_GATES):
        return None
    return await asked(_gates, tracker, call, body, check)


async def asked(function: Callable[..., T], *arguments: Any) -> T:
    """What a tracker says, in a thread of its own.

    :raises LocalError: if the gateway refused what it asked; its text is fit for users then
    """
    try:
        return await threads.run(function, *arguments)
    except Exception as error:
        if isinstance(error.__cause__, LocalError):
            raise error.__cause__ from None
        raise


def _gates(tracker: TokenTracker, call: Call, body: Mapping[str, Any], check: Check | None) -> Decimal | None:
    sponsored = call.sponsored_allowance_name
    if overridden(tracker, "admit"):
        tracker.admit(ModelRequest(call.user, call.provider, call.model_id, body, sponsored, call.task, call.metadata))
    if check is not None:
        _is_checked.set(False)
        check(model_id=call.model_id, user=call.user, sponsored_allowance_name=sponsored)
        if not _is_checked.get():
            return _LIMITLESS
    if overridden(tracker, "is_paid") and not tracker.is_paid(call.model_id):
        return _LIMITLESS
    if overridden(tracker, *_REMAINING):
        if check is None:
            _require_remaining(tracker, call.user, sponsored)
        if not isinstance(tracker, TokenTracker):
            # It keeps books of its own, and they alone count.
            return _LIMITLESS
    if overridden(tracker, "max_credits"):
        return as_credits(tracker.max_credits(call.user))
    return None


def check_limits(tracker: TokenTracker, model_id: str, user: Mapping[str, Any], sponsored: str | None) -> bool:
    """What the tracker says of a user's limits.

    :raises TokenLimitExceededError: if it says that nothing remains
    """
    _is_checked.set(True)
    if tracker.is_paid(model_id):
        _require_remaining(tracker, user, sponsored)
    return True


def _require_remaining(tracker: TokenTracker, user: Mapping[str, Any], sponsored: str | None) -> None:
    daily, total = tracker.remaining_credits(user, sponsored_allowance_name=sponsored)
    if total is not None and total < 1:
        raise TotalTokenLimitExceededError(f"The sponsored allowance {sponsored} is used up.")
    if daily is not None and daily < 1:
        raise DailyTokenLimitExceededError("You have no credits left today.")


def as_credits(limit: object) -> Decimal | None:
    """A limit as a tracker says it, to the microcredit."""
    if limit is None:
        return None
    if isinstance(limit, float) and math.isinf(limit):
        return _LIMITLESS if limit > 0 else Decimal(0)
    exact = Decimal(str(limit))
    return min(max(exact, Decimal(0)), _LIMITLESS).quantize(_MICROCREDIT).normalize()


def limit_headers(gateway: Gateway, limit: Decimal | None) -> dict[str, str]:
    """The header that replaces the user's own limit.

    :raises RequestError: if the gateway is somebody else's, which does not let requests choose
    """
    if limit is None:
        return {}
    if not gateway.is_private:
        raise RequestError(
            "This pipe has a limit of its own, which the gateway at OWUI_TRACKING_URL does not take from requests. An "
            "administrator can unset OWUI_TRACKING_URL, or take a tracker without max_credits and is_paid."
        )
    return {"X-Tracking-Limit": format(limit, "f")}


async def report(tracker: TokenTracker, call: Call, input_tokens: int, output_tokens: int) -> None:
    """Tells the tracker about a request that was charged. What goes wrong there is logged; the charge stands."""
    if not overridden(tracker, "log_token_usage"):
        return

    def tell() -> None:
        CHARGED.set(True)
        tracker.log_token_usage(
            provider=call.provider,
            model_id=call.model_id,
            user=dict(call.user),
            prompt_tokens=input_tokens,
            response_tokens=output_tokens,
            sponsored_allowance_name=call.sponsored_allowance_name,
        )

    try:
        await threads.run(tell)
    except Exception:
        logger.exception("log_token_usage of %s failed", type(tracker).__name__)


async def report_request(tracker: TokenTracker, call: Call, gateway: Gateway, request: str | None) -> None:
    """The same for a request that the gateway sent, as soon as it is charged, however it ended."""
    if request is None or not overridden(tracker, "log_token_usage"):
        return
    try:
        for _ in range(10):
            found = await asynchronous.call(gateway, "GET", f"/local/requests/{request}", {"wait": str(_CHARGE)})
            if found.get("settled", True):
                await report(tracker, call, found["input_tokens"], found["output_tokens"])
                return
    except LocalError as error:
        if error.status != 404:  # One that was released, because nothing came of it.
            logger.warning("the charge of request %s could not be read: %s", request, error)


def in_background(work: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
    """Does it beside this task, whose own end does not end it."""
    task = asyncio.ensure_future(work())
    _background.add(task)
    task.add_done_callback(_done)
    return task


def _done(task: "asyncio.Task[Any]") -> None:
    _background.discard(task)
    if not task.cancelled() and task.exception() is not None:
        # Whoever waits for it gets it too.
        logger.debug("work in the background ended with an error", exc_info=task.exception())
