"""Starts and stops programs. Each writes its log to a file, runs in a process group of its own, and is ended by that."""

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
KEPT = ("PATH", "TMPDIR", "RUST_BACKTRACE", "TZ")
START = 60
STOP = 60


def clean_environment() -> dict[str, str]:
    """What a program needs of ours, and nothing that configures it."""
    return {name: value for name, value in os.environ.items() if name in KEPT}


class Program:
    """A running program."""

    def __init__(
        self, arguments: Sequence[str | Path], environment: dict[str, str], log: Path, inherited: Sequence[int] = ()
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self.begin = file.tell()
            self.process = subprocess.Popen(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if not inherited else file,
                stderr=file,
                pass_fds=inherited,
                start_new_session=True,
            )

    def address(self) -> str:
        """Where a program of ours listens: it says so on its first line."""
        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], START)
        line = stdout.readline().decode() if ready else ""
        found = re.search(r"http://[0-9.]+:[0-9]+", line)
        if found is None:
            self.stop()
            raise RuntimeError(f"{self.process.args[0]} did not start: {line}{self.tail()}")
        return found.group()

    def members(self, name: str = "") -> list[int]:
        """The process ids of all that runs in its group and has that name (at most 15 letters)."""
        return [pid for pid, command, group in _processes() if group == self.process.pid and name in command]

    def is_running(self) -> bool:
        return self.process.poll() is None

    def ended(self, seconds: float) -> int:
        """Waits until it has ended by itself and returns its exit code."""
        code = self.process.wait(timeout=seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def stop(self) -> int:
        """Ends it as a supervisor would and returns its exit code."""
        if self.is_running():
            self.process.terminate()
        try:
            code = self.process.wait(timeout=STOP)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def said(self) -> str:
        """Its log; what another program wrote to that file before is left out."""
        return self.log.read_bytes()[self.begin :].decode(errors="replace")

    def tail(self, lines: int = 60) -> str:
        """The end of its log."""
        return "\n".join(self.said().splitlines()[-lines:])


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """The memory of a process, shared files included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _processes() -> Iterator[tuple[int, str, int]]:
    """The id, name and group of every process that runs."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                start, _, rest = (folder / "stat").read_text().rpartition(")")
            except OSError:
                continue  # It has just ended.
            state, _, group = rest.split()[:3]
            if state not in "ZX":
                yield int(folder.name), start.partition("(")[2], int(group)
