"""A button that shows what the user has left.

A Function of Open WebUI needs its class under the name ``Action``; the comment at its beginning gives the button an icon::

    \"\"\"
    title: Credits left
    icon_url: data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAyNCAyNCIgZmlsbD0ibm9uZSIgc3Ryb2tlPSIjNjc2NzY3IiBzdHJva2Utd2lkdGg9IjEuOCI+PGNpcmNsZSBjeD0iMTIiIGN5PSIxMiIgcj0iOSIvPjxwYXRoIGQ9Ik0xNSA5LjVjLS42LTEuMi0xLjYtMS44LTMtMS44LTEuNyAwLTMgLjgtMyAyLjFzMS4yIDEuOSAzIDIuMiAzIDEgMyAyLjItMS4zIDIuMS0zIDIuMWMtMS41IDAtMi41LS42LTMtMS44TTEyIDZ2MTIiLz48L3N2Zz4=
    \"\"\"
    from openwebui_token_tracking.actions import CreditBalance as Action
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from openwebui_token_tracking import asynchronous, child
from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.errors import LocalError, user_text
from openwebui_token_tracking.pipes.rules import as_credits, asked, overridden
from openwebui_token_tracking.pipes.status import Emitter, amount, show
from openwebui_token_tracking.tracking import TokenTracker


class CreditBalance:
    """Shows the balance of the user's own allowance, and of the sponsored ones that concern the chat or were used today."""

    DATABASE_URL_ENV = "DATABASE_URL"
    tracker_class: type[TokenTracker] = TokenTracker
    """The same rules as those of the pipes."""

    class Valves(BaseModel):
        """There is nothing to set."""

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.is_visible = False

    async def action(
        self,
        body: dict[str, Any],
        __user__: Mapping[str, Any] | None = None,
        __metadata__: Mapping[str, Any] | None = None,
        __event_emitter__: Emitter | None = None,
        __event_call__: object = None,
    ) -> dict[str, Any]:
        """Shows the balance as a status line. Returns the body as it is."""
        if __event_emitter__ is None or not __user__:
            return body
        await show(__event_emitter__, "Getting credit balance…", done=False)
        try:
            text = await self.text(__user__, str(body.get("model") or ""))
        except LocalError as error:
            text = user_text(error)
        await show(__event_emitter__, text)
        self.is_visible = True
        return body

    async def text(self, user: Mapping[str, Any], model: str = "") -> str:
        """The balance for people.

        :param model: the chat's model; its sponsored allowance is shown even if it was not used today
        :raises LocalError: if it can't be read
        """
        balance = await asynchronous.call(child.gateway(), "GET", "/local/balance", {"user": str(user["id"])})
        base = dict(balance["base"])
        tracker = self.tracker_class()
        if overridden(tracker, "max_credits"):
            base["limit"] = as_credits(await asked(tracker.max_credits, user)) or Decimal(0)
            base["remaining"] = base["limit"] - base["spent"] - base["held"]
        parts = [f"Credits today: {_left(base)} ({_reset(balance)})"]
        longer = [balance[period] for period in ("week", "month") if balance[period] is not None]
        parts += [f"this {one['period']}: {_left(one)} ({_reset(one)})" for one in longer]
        named = model.split("---", 1)[0] if "---" in model else None
        for one in balance["sponsored"]:
            daily, total = one["daily"], one["total"]
            was_used = daily is not None and (daily["spent"] > 0 or daily["held"] > 0)
            if one["name"] == named or was_used:
                of_today = f"{_left(daily)} today, " if daily is not None else ""
                parts.append(f"{one['name']}: {of_today}{_left(total)} in all")
        return " | ".join(parts)


def duration(seconds: int) -> str:
    """A time span for people, rounded up to the minute."""
    minutes = -(-seconds // 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _reset(period: Mapping[str, Any]) -> str:
    return f"reset at {period['resets_text']}, in {duration(int(period['resets_in']))}"


def _left(counter: Mapping[str, Any]) -> str:
    return f"{amount(max(counter['remaining'], 0))} of {amount(counter['limit'])} left"


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
