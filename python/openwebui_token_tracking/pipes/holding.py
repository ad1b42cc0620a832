"""The hold behind a request that a pipe of one's own sends: taken before it, renewed while it runs, settled once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

from openwebui_token_tracking import asynchronous
from openwebui_token_tracking.client import Gateway
from openwebui_token_tracking.errors import LocalError, RequestError
from openwebui_token_tracking.pipes.calling import Call
from openwebui_token_tracking.pipes.rules import in_background

logger = logging.getLogger(__name__)

Outcome = Literal["complete", "client_gone", "provider_failed"]

# Seconds between two reports of what was produced: as much as this may be lost if this process is killed.
_PROGRESS = 2.0
# Reports without anything new, to say that the request still runs: one in so many. The gateway waits two minutes.
_ALIVE = 15


class Hold:
    """Credits that are set aside for one request."""

    def __init__(self, gateway: Gateway, answer: Mapping[str, Any]) -> None:
        self._gateway = gateway
        self._path = f"/local/holds/{answer['id']}"
        self._texts: list[str] = []
        self._ended = asyncio.Event()
        self._turn = asyncio.Lock()
        self.max_tokens: int | None = answer.get("max_tokens")
        """The output that the credits buy, where the policy limits it."""
        self.lost: LocalError | None = None
        """Why the hold is gone, if it is; then nothing more may be produced."""
        self.has_produced = False

    @classmethod
    async def take(cls, gateway: Gateway, call: Call, body: Mapping[str, Any], limit: Decimal | None) -> "Hold":
        """Sets credits aside. Waits where only running requests are in the way.

        :param limit: replaces the user's own daily limit, in credits
        :raises LocalError: if the request is refused
        """
        asked: dict[str, Any] = {
            **call.labels(),
            "provider": call.provider,
            "model": call.model_id,
            "request": {**body, "model": call.model_id},
        }
        if limit is not None:
            asked["limit"] = limit

        async def taken() -> "Hold":
            return cls(gateway, await asynchronous.call(gateway, "POST", "/local/holds", body=asked))

        taking = in_background(taken)
        try:
            hold = await asyncio.shield(taking)
        except asyncio.CancelledError:
            # Stopped before anything was sent: a hold that comes all the same is given back.
            in_background(lambda: _give_back(taking))
            raise
        in_background(hold._keep)
        return hold

    def produced(self, text: str) -> None:
        """Notes output. It is charged even if nobody comes back.

        :raises RequestError: if the hold is gone
        """
        if self.lost is not None:
            raise RequestError("The answer was cut off, because its credits are not set aside any more.", 503)
        if text:
            self.has_produced = True
            self._texts.append(text)

    async def settle(self, outcome: Outcome, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        """Charges the request: by its usage, else by what it produced. Goes on if its caller is cancelled.

        :return: the bill: ``credits``, ``credits_remaining``, ``cost``, ``estimated``, ``adjusted``, ``input_tokens``,
            ``output_tokens``
        :raises LocalError: if it can't be charged now; then what was last reported is charged later
        """

        async def settled() -> dict[str, Any]:
            ended: dict[str, Any] = {"outcome": outcome, "text": self._taken()}
            if usage is not None:
                try:
                    return await self._call("POST", "/settle", {**ended, "usage": usage})
                except LocalError as error:
                    if error.status != 400:
                        raise
                    logger.warning("the usage that a pipe reported can't be true: %s", error)
            return await self._call("POST", "/settle", ended)

        return await self._end(settled)

    async def release(self) -> None:
        """Gives the credits back, because nothing came of the request."""
        try:
            await self._end(lambda: self._call("DELETE", "", None))
        except LocalError as error:
            logger.warning("a hold was not released: %s", error)

    async def _end(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        self._ended.set()

        async def end() -> dict[str, Any]:
            async with self._turn:
                return await work()

        return await asyncio.shield(in_background(end))

    async def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        answer: dict[str, Any] = await asynchronous.call(self._gateway, method, self._path + path, body=body)
        return answer

    def _taken(self) -> str:
        text = "".join(self._texts)
        self._texts.clear()
        return text

    async def _keep(self) -> None:
        """Reports what was produced, until the end."""
        quiet = 0
        while not await self._ends_within(_PROGRESS):
            quiet = 0 if self._texts else quiet + 1
            if quiet % _ALIVE:
                continue
            async with self._turn:
                if self._ended.is_set():
                    return
                try:
                    await self._call("POST", "/progress", {"text": self._taken()})
                except LocalError as error:
                    self.lost = error
                    return

    async def _ends_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return False
        return True


async def _give_back(taking: "asyncio.Task[Hold]") -> None:
    try:
        hold = await taking
    except LocalError:
        return
    await hold.release()
