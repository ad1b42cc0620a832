"""Blocking code off the event loop, each piece in a thread of its own.

asyncio's pool of threads is shared by the whole of Open WebUI and small: a few calls that hang would stop everybody.
Threads here are daemons, so none of them keeps the process from ending.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

# So many items are read before they are asked for. Few, because what nobody took is not charged on Stop.
_AHEAD = 2


def _start(work: Callable[[], None], name: str) -> None:
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()


async def run(function: Callable[..., T], *arguments: Any) -> T:
    """The result of ``function(*arguments)``, called in a new thread. Cancelling stops the waiting, not the call."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def answer(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function(*arguments)
        except StopIteration as error:
            # A future can't carry it: it would end the coroutine that waits.
            failure = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:
            failure = error
        _tell(loop, answer, result, failure)

    _start(work, "token-tracking-call")
    return await future


async def iterate(start: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    """The items of a blocking iterable. It is made and read in a new thread, and closed there when nobody wants more."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    abandoned = threading.Event()

    def work() -> None:
        iterable: Iterable[T] = ()
        failure: BaseException | None = None
        try:
            iterable = start()
            for item in iterable:
                _tell(loop, items.put_nowait, (True, item))
                room.acquire()
                if abandoned.is_set():
                    break
        except BaseException as error:
            failure = error
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                _closed(close)
        _tell(loop, items.put_nowait, (False, failure))

    _start(work, "token-tracking-stream")
    try:
        while True:
            is_item, value = await items.get()
            if not is_item:
                break
            yield value
            room.release()
        if value is not None:
            raise value
    finally:
        abandoned.set()
        room.release()


def _closed(close: Callable[[], object]) -> None:
    try:
        close()
    except BaseException:  # The thread has nobody left to tell.
        pass


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        pass
