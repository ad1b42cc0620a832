"""The private gateway as a process: it starts when needed, is replaced when it dies, and never outlives its parent."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from programs import Process, PROGRAMS, clean_environment
from stage import OPENAI, PATIENCE, Stage, Emitter, body, events, metadata, read, text, until, usage

from openwebui_token_tracking import TokenTracker, child
from openwebui_token_tracking.actions import CreditBalance
from openwebui_token_tracking.errors import AwayError, GatewayGoneError
from openwebui_token_tracking.pipes import OpenAITrackedPipe, RequestError
from openwebui_token_tracking.tracking import DailyTokenLimitExceededError

BASE = "openai.gpt-test"


def running(stage: Stage) -> child.Child:
    found = child.gateway(stage.url)
    assert isinstance(found, child.Child)
    found.endpoint()
    return found


def pid_of(gateway: child.Child) -> int:
    assert gateway.pid is not None
    return gateway.pid


def is_alive(pid: int) -> bool:
    """Whether that process still runs; one that only waits to be asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def kill(gateway: child.Child) -> None:
    """Kills it, and waits until it is gone: a request before that gets a clear error, as any that it was at work on."""
    os.kill(pid_of(gateway), signal.SIGKILL)
    await until(lambda: gateway.pid is None)


async def test_a_killed_gateway_is_replaced(stage: Stage) -> None:
    user, pipe, gateway = stage.new_user(), OPENAI.made(stage.provider), running(stage)
    for _ in range(3):
        await kill(gateway)
        answer: Any = await pipe.pipe(body(BASE, "input=1000 output=20", stream=False), user, metadata(BASE))
        assert answer["usage"]["credits"] == 3.3
    assert len(stage.rows(user["id"])) == 3
    await kill(gateway)
    assert await asyncio.to_thread(TokenTracker().remaining_credits, user) == (990, None)


async def test_a_stream_whose_gateway_is_killed_says_so_and_is_charged(stage: Stage) -> None:
    user, pipe, gateway = stage.new_user(), OPENAI.made(stage.provider), running(stage)
    seen: list[dict[str, Any]] = []
    async for event in events(await pipe.pipe(body(BASE, "output=10000 delay=20"), user, metadata(BASE))):
        seen.append(event)
        if len(seen) == 5:
            await kill(gateway)
    assert text(seen) and "try again" in seen[-1]["error"]["message"]
    await pipe.pipe(body(BASE, "input=1000 output=20", stream=False), user, metadata(BASE))
    first, second = await until(lambda: rows if len(rows := stage.rows(user["id"])) == 2 else None)
    assert first["estimated"] is not None and first["charge"] > 0
    assert second["charge"] == 3_300_000


async def test_many_requests_at_a_time_start_one_gateway(stage: Stage) -> None:
    child.close(stage.url)
    pipe = OPENAI.made(stage.provider)
    asked = [
        pipe.pipe(body(BASE, "input=10 output=1", stream=False), stage.new_user(), metadata(BASE)) for _ in range(30)
    ]
    assert len(await asyncio.gather(*asked)) == 30
    children = Path(f"/proc/{os.getpid()}/task")
    workers = [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]
    names = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in workers if is_alive(int(pid))]
    own = os.fsencode(stage.url)
    of_stage = [pid for pid in workers if is_alive(int(pid)) and own in Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(of_stage) == 1 and all(b"postgresql" not in b" ".join(name) for name in names), "no URL in the arguments"


async def test_a_gateway_that_can_not_start_says_why_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'nothing.db'}")
    pipe, began = OPENAI.made(stage.provider), time.monotonic()
    failed = await asyncio.gather(
        *(pipe.pipe(body(BASE), {"id": "ann"}, metadata(BASE)) for _ in range(20)), return_exceptions=True
    )
    assert time.monotonic() - began < PATIENCE
    assert all(isinstance(error, RequestError) and "owui-token-tracking init" in str(error) for error in failed)
    monkeypatch.setenv("OWUI_TRACKING_EXECUTABLE", str(tmp_path / "nothing"))
    with pytest.raises(GatewayGoneError, match="OWUI_TRACKING_EXECUTABLE"):
        child.Child(None).endpoint()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("OWUI_TRACKING_EXECUTABLE", str(broken))
    with pytest.raises(GatewayGoneError, match="without saying why"):
        child.Child(None).endpoint()


PARENT = """
import asyncio, os, sys
from openwebui_token_tracking import child
from openwebui_token_tracking.pipes import OpenAITrackedPipe

async def main():
    pipe = OpenAITrackedPipe()
    pipe.valves = pipe.Valves(API_BASE_URL=sys.argv[1], API_KEY="a-provider-key")
    asked = {"model": "openai.gpt-test", "stream": True, "messages": [{"role": "user", "content": "[[sim output=10000 delay=20]]"}]}
    count = 0
    async for line in await pipe.pipe(asked, {"id": sys.argv[2]}, {}):
        count += 1
        if count == 5:
            gateway = child.gateway()
            print(gateway.pid, gateway.endpoint().socket_path, flush=True)
            if sys.argv[3] == "exit":
                return

asyncio.run(main())
"""


def parent(stage: Stage, user: dict[str, Any], what: str) -> tuple[subprocess.Popen[str], int, Path]:
    """A process with a pipe in the middle of an answer; its gateway, and its socket."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, f"{stage.provider}/v1", user["id"], what],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pid, path = process.stdout.readline().split()
    return process, int(pid), Path(path)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
async def test_the_gateway_ends_with_its_parent_and_charges(stage: Stage, end: signal.Signals | None) -> None:
    user = stage.new_user()
    process, pid, socket = parent(stage, user, "exit" if end is None else "go on")
    if end is not None:
        assert is_alive(pid) and socket.is_socket() and socket.parent.stat().st_mode & 0o077 == 0
        process.send_signal(end)
    await asyncio.to_thread(process.wait, PATIENCE)
    await until(lambda: not is_alive(pid))
    (row,) = stage.rows(user["id"])
    assert row["output_tokens"] > 0 and row["outcome"] == "client_gone"
    assert not socket.parent.exists()


FORKED = """
import os, sys
from openwebui_token_tracking import child
gateway = child.gateway()
first = child.local().request("GET", "/local/settings")
pid = gateway.pid
new = os.fork()
if new == 0:
    assert child.local().request("GET", "/local/settings") == first
    print(pid, gateway.pid, flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdout.close()
os.kill(os.getpid(), 9)
"""


async def test_after_a_fork_each_process_has_its_own(stage: Stage) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    line = await asyncio.to_thread(process.stdout.readline)
    first, second = map(int, line.split())
    assert first != second
    await until(lambda: not is_alive(first))
    assert is_alive(second), "the forked process lives, and so does its gateway"
    process.stdin.close()
    await until(lambda: not is_alive(second))
    await asyncio.to_thread(process.wait, PATIENCE)


async def test_two_databases_at_a_time(stage: Stage, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    from openwebui_token_tracking import executable

    executable.run("init", "--create", database_url=other)
    try:
        models = await asyncio.gather(
            asyncio.to_thread(TokenTracker(other).get_models), asyncio.to_thread(TokenTracker().get_models)
        )
        assert all("gpt-test" in [model.id for model in found] for found in models[1:])
        assert "gpt-test" not in [model.id for model in models[0]]
    finally:
        child.close(other)


def serving(stage: Stage, monkeypatch: pytest.MonkeyPatch, folder: Path, more: str = "") -> Process:
    """A gateway that somebody else runs, and which the environment names; with more lines in its configuration."""
    config = folder / "gateway.toml"
    config.write_text(
        f'[gateway]\nlisten = "127.0.0.1:0"\nkey = "a-key-for-pipes-and-tests"\n{more}'
        f'[[provider]]\nname = "openai"\nkind = "openai"\nbase_url = "{stage.provider}/v1"\napi_key = "its-own-key"\n'
    )
    environment = {**clean_environment(), "DATABASE_URL": stage.url}
    process = Process([str(PROGRAMS / "owui-token-tracking"), "serve", "--config", str(config)], environment)
    monkeypatch.setenv("OWUI_TRACKING_URL", f"{process.url}/v1")
    monkeypatch.setenv("OWUI_TRACKING_KEY", "a-key-for-pipes-and-tests")
    return process


@pytest.fixture
def public(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A gateway that somebody else runs."""
    process = serving(stage, monkeypatch, tmp_path)
    yield process
    process.stop()


async def test_a_gateway_of_somebody_else(stage: Stage, public: Process) -> None:
    user, emitter = stage.new_user(), Emitter()
    pipe = OpenAITrackedPipe()
    assert {"id": "gpt-test", "name": "gpt-test"} in await pipe.pipes()
    got = await read(
        await pipe.pipe(body(BASE, "input=1000 output=20"), user, metadata(BASE), __event_emitter__=emitter)
    )
    assert usage(got)["credits"] == 3.3 and emitter.lines
    assert not child.gateway().is_private
    assert TokenTracker().max_credits(user) == 1000

    class Mine(TokenTracker):
        def max_credits(self, *args: Any, **kwargs: Any) -> int:
            return 5

    pipe.token_tracker = Mine()
    with pytest.raises(RequestError, match="OWUI_TRACKING_URL"):
        await pipe.pipe(body(BASE), user, metadata(BASE))


async def test_a_gateway_that_believes_signed_users_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the guide has it: Open WebUI, its pipes and the gateway know one secret. It may be changed while all of them run."""
    secret, changed = "a-secret-of-open-webui-and-the-gateway", "the-secret-that-comes-after-that-one"
    process = serving(stage, monkeypatch, tmp_path, f'jwt_secret = "{secret}"\njwt_secret_next = "{changed}"\n')
    user, pipe = stage.new_user(), OpenAITrackedPipe()

    async def asked() -> Any:
        return await pipe.pipe(body(BASE, "input=1000 output=20", stream=False), user, metadata(BASE))

    try:
        with pytest.raises(RequestError, match="Unsigned user headers"):
            await asked()
        # The process's own gateway knows no secret, and needs none.
        monkeypatch.setenv("FORWARD_USER_INFO_HEADER_JWT_SECRET", "another-secret-than-that-of-the-gateway")
        with monkeypatch.context() as alone:
            alone.delenv("OWUI_TRACKING_URL")
            answer: Any = await OPENAI.made(stage.provider).pipe(body(BASE, stream=False), user, metadata(BASE))
            assert answer["usage"]["credits"] > 0
        with pytest.raises(RequestError, match="not valid or has expired"):
            await asked()
        for known in (f" {secret} ", changed):
            monkeypatch.setenv("FORWARD_USER_INFO_HEADER_JWT_SECRET", known)
            assert (await asked())["usage"]["credits"] == 3.3
        assert [row["input_tokens"] for row in stage.rows(user["id"])][1:] == [1000, 1000]
        # A user without a name, and one whose name is no ASCII.
        user = {"id": user["id"], "name": "Zoë 100%", "email": None}
        assert (await asked())["usage"]["credits"] == 3.3
    finally:
        process.stop()


async def test_a_gateway_of_somebody_else_that_is_away(
    stage: Stage, public: Process, caplog: pytest.LogCaptureFixture
) -> None:
    public.stop()
    with pytest.raises(RequestError, match="can't be reached, so the request was not sent") as failed:
        await OpenAITrackedPipe().pipe(body(BASE), stage.new_user(), metadata(BASE))
    # The user reads neither an address nor a tuple; the administrator finds both in the log.
    assert not re.search(r"http|127\.0\.0\.1|\d{4,}|[(\[{]", str(failed.value)), failed.value
    assert "can't be reached at http://127.0.0.1:" in caplog.text
    emitter = Emitter()
    await CreditBalance().action({}, stage.new_user(), {}, emitter)
    assert "can't be reached" in emitter.lines[-1] and "127.0.0.1" not in emitter.lines[-1], emitter.lines
    with pytest.raises(AwayError, match="can't be reached at http"):
        await asyncio.to_thread(TokenTracker().get_models)


async def test_ten_chats_at_a_time_stay_within_the_limit(stage: Stage) -> None:
    """A balance for one: the others wait for it, and then meet the limit."""
    user, pipe = stage.new_user(), OPENAI.made(stage.provider)
    await pipe.pipe(body(BASE, "input=1000 output=66400", stream=False), user, metadata(BASE))
    asked = [pipe.pipe(body(BASE, "input=10 output=200 delay=1"), user, metadata(BASE)) for _ in range(10)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    streams = [answer for answer in answers if not isinstance(answer, BaseException)]
    await asyncio.gather(*(read(stream) for stream in streams))
    refused = [answer for answer in answers if isinstance(answer, DailyTokenLimitExceededError | RequestError)]
    assert len(streams) + len(refused) == 10 and len(refused) >= 8


def test_folders_of_killed_processes_are_removed_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # A short name: the path of a socket has a limit.
    with tempfile.TemporaryDirectory(prefix="t") as place:
        check_folders(Path(place), monkeypatch)


def check_folders(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    folders = {name: place / f"token-tracking-{name}" for name in ("dead", "live", "young", "used", "bare")}
    for folder in folders.values():
        folder.mkdir(mode=0o700)
    (folders["used"] / "notes").touch()
    for name in ("dead", "young", "live"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folders[name] / "gateway.sock"))
        listener.listen()
        if name == "live":
            living = listener
        else:
            listener.close()
    for name in ("dead", "live", "used", "bare"):
        os.utime(folders[name], (0, 0))
    new = Path(child._private_folder())
    assert new.stat().st_mode & 0o777 == 0o700
    assert {name for name, folder in folders.items() if folder.exists()} == {"live", "young", "used"}
    living.close()
    os.rmdir(new)
