"""The vendors' own clients read through the gateway whatever they read at the model server itself: as much text, the same calls,
the same end, the same class of error with the provider's words. And it costs what it should.

`readings.txt` shows what each of them reads; `UPDATE_READINGS=1` writes it anew."""

import json
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import anthropic
import mistralai.client
import ollama
import openai
import pytest
from cases import Case, cases
from google import genai
from programs import KEY, Gateway
from raw_server import RawServer
from reading import HELPER, NAMES, ErrorEvent, Place, Reader, Reading, read, readers

TABLE = Path(__file__).with_name("readings.txt")
HEAD = """What each client reads at the server, and (>) through the gateway, with the charge. Texts are quoted; behind them stand calls, the
end, and the tokens of input and output that the client is told. What is put together by a client's own helper is named where it is
something else.
"""
# The ends of other APIs as a chat of OpenAI's has them.
ENDS = {
    **dict.fromkeys(("end_turn", "stop_sequence", "STOP"), "stop"),
    **dict.fromkeys(("max_tokens", "MAX_TOKENS"), "length"),
    **dict.fromkeys(("refusal", "SAFETY", "PROHIBITED_CONTENT"), "content_filter"),
    "tool_use": "tool_calls",
    "model_length": "length",
    # OpenAI has no word for it; the text has Google's.
    "MALFORMED_FUNCTION_CALL": "stop",
}
# What the clients raise where the server told an error.
THROUGH = (openai.APIError, anthropic.APIError)
TOLD = (*THROUGH, genai.errors.APIError, mistralai.client.errors.SDKError, ollama.ResponseError, ErrorEvent)


# Groq's own status for too much load, which is 503 everywhere else, and through the gateway.
TOO_BUSY = 498


@dataclass
class Pair:
    """One client's reading of a case, at the server and through the gateway, and what the latter was charged."""

    case: Case
    readers: tuple[Reader, Reader]
    direct: Reading
    ours: Reading
    charged: Decimal = Decimal(0)

    @property
    def is_same_client(self) -> bool:
        return self.readers[0] is self.readers[1]

    def misses(self) -> list[str]:
        """What is not as it should be."""
        direct, ours, missed = self.direct, self.ours, []
        if not self.case.is_right(self.charged):
            missed.append(f"charged {self.charged} instead of {self.case.charge}")
        if ours.credits is not None and ours.credits != self.charged:
            missed.append(f"is told {ours.credits} credits, and charged {self.charged}")
        for name in ("text", "thinking"):
            if getattr(direct, name) not in getattr(ours, name):
                missed.append(f"reads {name} {getattr(ours, name)!r} instead of {getattr(direct, name)!r}")
        if self.case.status != 200:
            return missed + self.misses_refusal()
        if ours.error is None and ours.credits is None:
            missed.append("is told no credits")
        is_told = isinstance(direct.error, TOLD) and not isinstance(direct.error, openai.APIConnectionError)
        if is_told and not self.case.refuses:
            return missed + (self.misses_words() if isinstance(ours.error, THROUGH) else [f"raises {error(ours)}"])
        if direct.error is not None:
            return missed  # The client itself stumbles.
        if direct.finish in (None, "error") and isinstance(ours.error, THROUGH):
            return missed + self.misses_words()  # There was no end, or one that the client does not take for an error.
        if ours.error is not None:
            missed.append(f"raises {error(ours)}")
        if direct.said() != ours.said():
            missed.append(f"reads calls {ours.said()} instead of {direct.said()}")
        if direct.finish and self.end() != ours.finish:
            missed.append(f"ends with {ours.finish} instead of {direct.finish}")
        return missed

    def end(self) -> str | None:
        """What the end at the server is through the gateway."""
        end = self.direct.finish
        if self.is_same_client:
            return end
        end = ENDS.get(end or "", end)
        return "tool_calls" if end == "stop" and self.direct.calls else end

    def misses_refusal(self) -> list[str]:
        """What is not as it should be where the server's status says an error."""
        ours, wanted = self.ours.error, type(self.direct.error)
        if self.is_of_the_service:
            wanted = (anthropic if isinstance(ours, anthropic.APIError) else openai).InternalServerError
        elif not self.is_same_client or self.case.status == TOO_BUSY:
            wanted = class_of(self.case.status)
        if type(ours) is not wanted:
            return [f"raises {error(self.ours)} instead of {wanted.__name__}"]
        return self.misses_words()

    @property
    def is_of_the_service(self) -> bool:
        """Whether the server refuses the service's own key or account: its user can't help that, and gets a 502."""
        return self.case.status in (401, 402, 403) or (self.case.never_reads is not None and self.case.reads is None)

    def misses_words(self) -> list[str]:
        """What it is not told, and what it should not be."""
        told, missed = str(self.ours.error), []
        if self.case.reads and self.case.reads not in told:
            missed.append(f"is not told `{self.case.reads}`: {told}")
        if self.case.never_reads and self.case.never_reads in told:
            missed.append(f"is told `{self.case.never_reads}`")
        code = code_of(self.direct.error)
        if self.is_same_client and self.case.reads and code and code_of(self.ours.error) != code:
            missed.append(f"is told the code {code_of(self.ours.error)} instead of {code}")
        return missed


def status_of(error: Exception | None) -> int | None:
    """The status of an answer in whose place an error came, by each vendor's name for it."""
    return next(
        (value for name in ("status_code", "code") if isinstance(value := getattr(error, name, None), int)), None
    )


def code_of(error: Exception | None) -> str | None:
    """The server's word for an error. Digits are the status again."""
    code = getattr(error, "type" if isinstance(error, anthropic.APIError) else "code", None)
    return code if isinstance(code, str) and not code.isdigit() else None


def class_of(status: int) -> type[Exception]:
    """OpenAI's class of errors for a status."""
    status = 503 if status == TOO_BUSY else status
    exact = {one.status_code: one for one in openai.APIStatusError.__subclasses__() if hasattr(one, "status_code")}
    return exact.get(status) or (openai.InternalServerError if status >= 500 else openai.APIStatusError)


def error(reading: Reading) -> str:
    """What a reading ended with."""
    if reading.error is None:
        return "nothing"
    status = status_of(reading.error)
    details = [str(one) for one in (status, code_of(reading.error)) if one]
    return f"{type(reading.error).__name__}({', '.join(details)})"


def cell(reading: Reading) -> str:
    """A reading as the table has it."""
    input_, output = reading.usage or (None, None)
    parts = [
        f"thinks {reading.thinking!r}" if reading.thinking else "",
        repr(reading.text) if reading.text else "",
        *reading.said(),
        reading.finish or "",
        f"{input_ if input_ is not None else '?'}+{output if output is not None else '?'}" if reading.usage else "",
        error(reading) if reading.error else "",
    ]
    return " ".join(part for part in parts if part) or "nothing"


@pytest.fixture(scope="module")
def pairs(server: RawServer, behind: Gateway) -> list[Pair]:
    """All cases, read by all that read them."""
    root = behind.url.removesuffix("/v1")
    found, users = [], []
    for case in cases():
        for at_server, through in readers(case):
            users.append(behind.new_user())
            gateway = Place(root, KEY, users[-1])
            direct, ours = read(at_server, Place(server.url), case), read(through, gateway, case)
            found.append(Pair(case, (at_server, through), direct, ours))
    rows = json.loads(behind.run("usage", "--by", "user", "--format", "json"), parse_float=Decimal)
    charged = {row["user_id"]: Decimal(row["credits"]) for row in rows}
    for pair, user in zip(found, users, strict=True):
        pair.charged = charged.get(user, Decimal(0))
    return found


def test_each_client_reads_through_the_gateway_what_it_reads_at_the_server(pairs: list[Pair]) -> None:
    wrong = [f"{pair.case.name}, {NAMES[pair.readers[1]]}: {missed}" for pair in pairs for missed in pair.misses()]
    assert not wrong, "\n".join(["", *wrong])


def test_the_table_of_readings_is_as_it_was(pairs: list[Pair]) -> None:
    lines = [HEAD]
    for case in cases():
        lines.append(f"{case.name} ({case.kind})")
        lines += rows([pair for pair in pairs if pair.case == case])
    table = "\n".join([*lines, ""])
    if os.environ.get("UPDATE_READINGS"):
        TABLE.write_text(table)
    assert table == TABLE.read_text(), "what clients read has changed; see UPDATE_READINGS above"


def rows(pairs: list[Pair]) -> list[str]:
    """A case's lines in the table; what is there already is not said again."""
    lines: list[str] = []
    seen: set[str] = set()
    at_server = ""
    for pair in pairs:
        direct, ours = cell(pair.direct), cell(pair.ours)
        names = [NAMES[reader] for reader in pair.readers]
        both = [f"  {names[0]}: {direct}", f"    > {names[1]}: {'the same' if direct == ours else ours}; {pair.charged}"]
        without = "\n".join(both).replace(HELPER, "")
        if without not in seen:
            lines += both if both[0] != at_server else both[1:]
            at_server = both[0]
        seen.add(without)
    return lines
