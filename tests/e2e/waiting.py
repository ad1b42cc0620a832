"""Waits for a thing itself, for a bounded time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK = 0.05


def until(look: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """What `look` returns, as soon as that is true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s, last seen {found!r}")
        time.sleep(LOOK)
