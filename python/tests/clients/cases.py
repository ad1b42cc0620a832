"""The answers of real servers that the vendors' clients read here. Those of `dialects.toml` belong to the gateway's own tests,
where each field is described; the others have the same form, and stand beside this file."""

import base64
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from programs import ROOT
from raw_server import chunk, head

HERE = Path(__file__).parent
FIXTURES = ROOT / "crates/providers/fixtures"
FILES = [ROOT / "crates/gateway/tests/gateway/dialects.toml", HERE / "answers.toml", HERE / "errors.toml"]


@dataclass(frozen=True)
class Case:
    """An answer, with what it costs."""

    name: str
    kind: str
    model: str
    what: str = ""
    # What it is a case of.
    fault: str = ""
    path: str = "/v1/chat/completions"
    stream: bool = False
    price: dict[str, int] = field(default_factory=lambda: {"input": 3000, "output": 15000})
    charge: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_encoding: str | None = None
    # The server answers 400 while the request has that field.
    refuses: str | None = None
    # The connection ends before the body does.
    breaks_off: bool = False
    # What the client must be told, and must not.
    reads: str | None = None
    never_reads: str | None = None
    adjusted: bool = False
    body: str = ""
    base64: str | None = None
    # Of the fixtures, instead of a body.
    file: str | None = None

    @property
    def provider(self) -> str:
        """As the gateway calls the server."""
        return f"some-{self.kind}"

    @property
    def bytes(self) -> bytes:
        """The body as it goes over the wire."""
        if self.file:
            return (FIXTURES / self.file).read_bytes()
        return base64.b64decode(self.base64) if self.base64 else self.body.encode()

    @property
    def events(self) -> list[bytes]:
        """The pieces of a stream that a client can read each by itself."""
        end = b"\n" if self.kind == "ollama" else b"\n\n"
        return [event + end for event in self.bytes.split(end) if event.strip()]

    def answer(self, request: str) -> Iterator[bytes]:
        """What the server says, at once."""
        if self.refuses and self.refuses in request:
            error = {"error": {"message": f"Extra inputs are not permitted: {self.refuses}"}}
            yield head(400, {"content-type": "application/json"}) + json.dumps(error).encode()
        else:
            end = b"" if self.breaks_off else chunk(b"")
            yield self.head() + chunk(self.bytes) + end

    def head(self) -> bytes:
        """The head of the answer."""
        framing = "application/x-ndjson" if self.kind == "ollama" else "text/event-stream; charset=utf-8"
        kind = framing if self.stream and self.status == 200 else "application/json"
        coding = {"content-encoding": self.content_encoding} if self.content_encoding else {}
        return head(self.status, {"content-type": kind, "transfer-encoding": "chunked", **coding, **self.headers})

    def entry(self) -> dict:
        """Its line in a list of prices."""
        costs = {f"{'image' if name == 'images' else name}_cost_credits": cost for name, cost in self.price.items()}
        units = ("input_tokens", "output_tokens", "input_audio_tokens", "images")
        each = {f"per_{unit}": 1000000 for unit in units}
        return {"id": self.model, "provider": self.provider, "name": self.model, "max_output_tokens": 16000} | costs | each

    def is_right(self, charged: Decimal) -> bool:
        """Whether that is the charge; what has to be counted has a margin of 0.6 %."""
        right = Decimal(self.charge or 0)
        return self.charge is None or abs(charged - right) * 1000 <= right * 6


def cases() -> list[Case]:
    """All of them."""
    return [Case(**case) for file in FILES for case in tomllib.loads(file.read_text())["case"]]

