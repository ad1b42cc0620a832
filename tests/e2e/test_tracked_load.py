"""What tracking costs in a real Open WebUI, beside a plain pipe in the same run. Medians of rounds that take turns."""

import asyncio
import os
import time
from collections.abc import Iterator
from statistics import median, quantiles

import aiohttp
import pytest

from account import Account
from open_webui import OpenWebUI
from processes import ROOT, cpu_seconds, resident_bytes
from tracked import FREE, MODEL, Tracked
from waiting import until

pytestmark = pytest.mark.load
PLAIN = "untracked.gpt-test"
SOURCE = (ROOT / "tests" / "e2e" / "pipes" / "untracked.py").read_text()
ROUNDS = int(os.environ.get("OWUI_E2E_ROUNDS", "3"))
# Seconds between two looks at the health of the server.
LOOK = 0.05


@pytest.fixture(scope="module")
def plain(open_webui: OpenWebUI, tracked: Tracked) -> Iterator[str]:
    """A pipe that tracks nothing."""
    valves = {"API_BASE_URL": f"{tracked.upstream.url}/v1", "API_KEY": "any"}
    if PLAIN not in open_webui.models():
        open_webui.install_pipe("untracked", SOURCE, valves)
    yield PLAIN


def several(tracked: Tracked) -> list[Account]:
    """Eight users: each may have only so many requests at a time."""
    return [tracked.open_webui.add_user() for _ in range(8)]


async def stream(session: aiohttp.ClientSession, user: Account, model: str, directive: str) -> None:
    """Reads an answer to its end, without looking at it closely: this process must not be what is measured."""
    body = {"model": model, "messages": [{"role": "user", "content": f"[[sim {directive}]]"}], "stream": True}
    headers = {"Authorization": f"Bearer {user.token}"}
    async with session.post("/api/chat/completions", json=body, headers=headers) as response:
        last = b""
        async for data in response.content.iter_any():
            last = (last + data)[-500:]
    assert response.ok and b"[DONE]" in last and b'"error"' not in last, last


async def health(session: aiohttp.ClientSession, times: list[float]) -> None:
    while True:
        begin = time.perf_counter()
        async with session.get("/health") as response:
            assert response.ok
        times.append(time.perf_counter() - begin)
        await asyncio.sleep(LOOK)


async def streams(users: list[Account], model: str, count: int, directive: str) -> tuple[float, list[float]]:
    """How long so many streams of some users at a time take, and how long the server's health needed to be told."""
    times: list[float] = []
    limits = aiohttp.ClientTimeout(total=180)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(users[0].url, timeout=limits, connector=connector) as session:
        watch = asyncio.ensure_future(health(session, times))
        begin = time.perf_counter()
        asked = [stream(session, users[number % len(users)], model, directive) for number in range(count)]
        await asyncio.gather(*asked)
        took = time.perf_counter() - begin
        watch.cancel()
    return took, times


def test_twenty_slow_streams_take_as_long_as_untracked_and_nobody_waits(tracked: Tracked, plain: str) -> None:
    """A hundred chunks, 50 ms between them."""
    users, directive = several(tracked), "input=10 output=100 delay=50"
    took: dict[str, list[float]] = {MODEL: [], plain: []}
    looks: dict[str, list[float]] = {MODEL: [], plain: []}
    asyncio.run(streams(users, MODEL, 1, "output=1"))
    for _ in range(ROUNDS):
        for model in (plain, MODEL):
            seconds, times = asyncio.run(streams(users, model, 20, directive))
            took[model].append(seconds)
            looks[model] += times
    tail = {model: quantiles(times, n=20)[-1] * 1000 for model, times in looks.items()}
    ratio = median(took[MODEL]) / median(took[plain])
    print(f"tracked {median(took[MODEL]):.2f} s, plain {median(took[plain]):.2f} s, {ratio:.2f} times")
    print(f"/health p95: tracked {tail[MODEL]:.0f} ms, plain {tail[plain]:.0f} ms")
    assert ratio < 1.25
    assert tail[MODEL] < 50


def test_cpu_per_chunk_at_sixty_four_streams(tracked: Tracked, plain: str) -> None:
    """In the process of Open WebUI, beside the plain pipe; and the memory of the gateway."""
    server, users = tracked.open_webui, several(tracked)
    pid, chunks = server.program.process.pid, 64 * 100
    used: dict[str, list[float]] = {MODEL: [], plain: []}
    asyncio.run(streams(users, FREE, 1, "output=1"))
    for _ in range(ROUNDS):
        for model in (plain, FREE):
            before = cpu_seconds(pid)
            asyncio.run(streams(users, model, 64, "input=10 output=100 delay=20"))
            used[plain if model == plain else MODEL].append((cpu_seconds(pid) - before) / chunks * 1e6)
    ratio = median(used[MODEL]) / median(used[plain])
    print(f"CPU for each chunk: tracked {median(used[MODEL]):.0f} µs, plain {median(used[plain]):.0f} µs, {ratio:.2f} times")
    memory = [resident_bytes(child) / 1e6 for child in server.children()]
    print(f"memory of the gateway: {memory} MB")
    assert ratio < 1.3
    assert len(memory) == 1 and memory[0] < 60


def test_hung_requests_slow_down_nobody(tracked: Tracked, plain: str) -> None:
    users, others = several(tracked), several(tracked)

    async def beside_hung() -> tuple[float, list[float]]:
        async with aiohttp.ClientSession(users[0].url, connector=aiohttp.TCPConnector(limit=0)) as session:
            hung = [asyncio.ensure_future(stream(session, user, FREE, "fault=hang")) for user in 2 * others]
            await asyncio.sleep(LOOK)
            measured = await streams(users, MODEL, 8, "input=10 output=50 delay=20")
            for one in hung:
                one.cancel()
            await asyncio.gather(*hung, return_exceptions=True)
        return measured

    took, times = asyncio.run(beside_hung())
    print(f"beside 16 hung requests: {took:.2f} s, /health p95 {quantiles(times, n=20)[-1] * 1000:.0f} ms")
    assert took < 10
    until(lambda: tracked.held() == 0, "the hung requests are charged")
