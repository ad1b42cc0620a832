"""What the scripts in Python share. A script gets a job on its standard input, and says for each of its cells, on a line of JSON,
what a person sees: the text of the answer, or the error that ends the program."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

JOB: dict[str, Any] = json.load(sys.stdin)
# The addresses of OpenAI's and of Anthropic's clients.
OPENAI: str = JOB["openai"]
ANTHROPIC: str = JOB["anthropic"]
ROUTE: str = JOB["route"]
# Those to ask for.
MODEL: str = JOB["model"]
EMBEDDING: str = JOB["embedding"]
# What a client prints by itself is no answer.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


@dataclass(frozen=True)
class Task:
    """One cell."""

    cell: str
    key: str
    ask: str
    # What the tool says.
    result: str

    def weather(self, city: str) -> str:
        """The tool: how the weather is in a city."""
        return f"It rains in {city}. {self.result}"


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TELLS = "Tells how the weather is in a city"


def run(**cells: Callable[[Task], str]) -> None:
    """Does the cells of the job. A limit that is reached and a wrong key are what the cell `plain` meets with another key."""
    say({"ready": True})
    for given in JOB["tasks"]:
        task = Task(**given)
        cell = cells["plain" if task.cell in ("limit", "key") else task.cell]
        begin = time.monotonic()
        try:
            said = {"shown": cell(task), "failed": False}
        except Exception as error:  # What ends a program is shown so.
            said = {"shown": f"{type(error).__name__}: {error}", "failed": True}
        say({"cell": task.cell, "seconds": time.monotonic() - begin, **said})


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), file=ANSWERS, flush=True)


def joined(pieces: list[str]) -> str:
    """The text of a stream, which must have come in pieces."""
    pieces = [piece for piece in pieces if piece]
    return "".join(pieces) if len(pieces) > 1 else f"not in pieces: {pieces}"


def numbers(vector: list[float]) -> str:
    return " ".join(str(number) for number in vector)
