"""What reached the simulated model server."""

import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from waiting import until


def mark() -> str:
    """A word by which a request is found again."""
    return f"mark-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Upstream:
    """The server; `url` is its address without the path of a format."""

    url: str

    def received(self, mark: str) -> list[dict[str, Any]]:
        """All requests with that word: `path`, `body`, `produced` (tokens) and `fate` (running, answered, cancelled)."""
        return httpx.get(f"{self.url}/received", params={"containing": mark}, timeout=30).json()

    def only(self, mark: str) -> dict[str, Any]:
        (one,) = self.received(mark)
        return one

    def ended(self, mark: str, fate: str, seconds: float = 30) -> dict[str, Any]:
        """The only such request, as soon as it has ended in that way."""

        def look() -> dict[str, Any] | None:
            found = self.received(mark)
            return found[0] if [one["fate"] for one in found] == [fate] else None

        return until(look, f"the model server's request is {fate}", seconds)
