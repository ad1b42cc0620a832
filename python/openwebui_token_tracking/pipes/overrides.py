"""What subclasses write that is made for version 0.1, whose ``pipe`` and ``pipes`` were synchronous.

Open WebUI gets an asynchronous method whatever a subclass writes. A synchronous override runs in a thread of its own, so it may
block, and its ``super().pipe(…)`` returns what it returned in 0.1: a generator, or an answer. The rule this protects: nothing that
somebody wrote is passed over without a word.
"""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import MethodType
from typing import Any, TypeVar, cast

from openwebui_token_tracking import threads

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]
_END = object()


class Bridge:
    """From the thread of a synchronous override to the event loop of its request."""

    def __init__(self, asked: Mapping[str, Any] | None = None) -> None:
        self.asked = asked or {}
        """What Open WebUI said, by its names."""
        self._loop = asyncio.get_running_loop()
        self._calls: set[Future[Any]] = set()
        self._streams: list[tuple[Iterator[Any], AsyncGenerator[Any, None]]] = []
        self._ended = False

    def inside(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """In a thread: calls an override, within which ``super()`` is synchronous."""
        _bridge.set(self)
        return function(*arguments, **named)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """In a thread: what comes of it on the event loop; an asynchronous generator becomes one that blocks."""

        async def apart() -> T:
            _bridge.set(None)
            return await work

        if self._ended:
            work.close()
            raise RuntimeError("the request has ended")
        future = asyncio.run_coroutine_threadsafe(apart(), self._loop)
        self._calls.add(future)
        try:
            result = future.result()
        finally:
            self._calls.discard(future)
        if not isinstance(result, AsyncGenerator):
            return result
        pieces = self._read(result)
        self._streams.append((pieces, result))
        return cast(T, pieces)

    def source_of(self, result: object) -> AsyncGenerator[Any, None] | None:
        """The asynchronous generator behind one that :meth:`call` has returned, if nobody has changed it."""
        for pieces, source in self._streams:
            if result is pieces:
                return source
        return None

    async def end(self) -> None:
        """Nobody waits any more: what still runs is cancelled, what still streams is closed."""
        self._ended = True
        for future in list(self._calls):
            future.cancel()
        for _, source in self._streams:
            try:
                await source.aclose()
            except RuntimeError:
                pass  # It runs at this moment, and is cancelled.

    def _read(self, source: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(source, _END)

        try:
            while (piece := self.call(following())) is not _END:
                yield piece
        finally:
            if not self._ended:
                self.call(source.aclose())


# Set in the thread of a synchronous override.
_bridge: contextvars.ContextVar[Bridge | None] = contextvars.ContextVar("bridge", default=None)


class Either:
    """A method that is asynchronous, but where a synchronous override calls it by ``super()``."""

    def __init__(self, asynchronous: Callable[..., Any], synchronous: Callable[..., Any]) -> None:
        self.__wrapped__ = asynchronous
        self.__doc__ = asynchronous.__doc__
        self.__module__ = asynchronous.__module__
        self._synchronous = synchronous

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        function = self.__wrapped__ if _bridge.get() is None else self._synchronous
        return function if instance is None else MethodType(function, instance)


def bridge() -> Bridge | None:
    """The one of the synchronous override in whose thread this is, if there is one."""
    return _bridge.get()


def either(function: F) -> F:
    """Makes an asynchronous method one that synchronous overrides can call."""

    @functools.wraps(function)
    def synchronous(*arguments: Any, **named: Any) -> Any:
        bridge = _bridge.get()
        assert bridge is not None
        return bridge.call(function(*arguments, **named))

    return cast(F, Either(function, synchronous))


def adopt(cls: type) -> None:
    """Prepares what a new class has in place of ``pipe`` and ``pipes``."""
    for name in ("pipe", "pipes"):
        written = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
        if isinstance(written, Either) or not inspect.isfunction(written) or inspect.isasyncgenfunction(written):
            continue
        made = either(_awaited(written)) if inspect.iscoroutinefunction(written) else _threaded(written)
        setattr(cls, name, made)


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """An asynchronous override; it may return what ``super()`` returned without waiting for it."""

    @functools.wraps(function)
    async def asynchronous(*arguments: Any, **named: Any) -> Any:
        result = await function(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    return asynchronous


def _threaded(function: Callable[..., Any]) -> Any:
    """A synchronous override, of 0.1."""

    @functools.wraps(function)
    async def asynchronous(*arguments: Any, **named: Any) -> Any:
        bridge = Bridge(named)
        work = functools.partial(bridge.inside, function, *arguments, **named)
        try:
            result = await threads.run(work)
            if (source := bridge.source_of(result)) is not None:
                return source
            if inspect.isawaitable(result):
                return await result
        except BaseException:
            await bridge.end()
            raise
        return _iterated(bridge, result) if isinstance(result, Iterator) else result

    return Either(asynchronous, function)


async def _iterated(bridge: Bridge, pieces: Iterator[Any]) -> AsyncGenerator[Any, None]:
    blocking = threads.iterate(lambda: bridge.inside(lambda: pieces))
    try:
        async for piece in blocking:
            yield piece
    finally:
        await blocking.aclose()
        await bridge.end()


def is_written(pipe: object, *names: str) -> bool:
    """Whether a subclass outside this package has one of these methods."""
    found = (getattr(getattr(pipe, name), "__module__", None) or "" for name in names)
    return any(module.partition(".")[0] != _PACKAGE for module in found)
