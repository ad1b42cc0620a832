"""What the simulated server produced, in credits, beside what the ledger has."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.request import urlopen

from programs import Gateway

MILLION = 1_000_000
# Credits for a million tokens of input and output.
PRICES = {
    "gpt-4o": (2500, 10000),
    "gpt-5.5": (1250, 10000),
    "claude-sonnet-4-5": (3000, 15000),
    "claude-opus-4-8": (5000, 25000),
    "claude-haiku-4-5-20251001": (1000, 5000),
    "text-embedding-3-small": (20, 0),
    "free-test": (0, 0),
}
DIRECTIVE = re.compile(r"\[\[sim ([^]]*)\]\]")


class Upstream:
    """The simulated server's memory of what it was asked."""

    def __init__(self, simulator: str) -> None:
        self.simulator = simulator
        self.seen = 0

    def new(self) -> list[dict[str, Any]]:
        """The requests since the last look: `path`, `body`, `produced` (output tokens) and `fate`."""
        with urlopen(f"{self.simulator}/received", timeout=30) as answer:
            received = json.load(answer)
        new, self.seen = received[self.seen :], len(received)
        return [one for one in new if isinstance(one["body"], dict) and "model" in one["body"]]


def produced(requests: list[dict[str, Any]]) -> Decimal:
    """Their price in credits."""
    return sum((price(one) for one in requests if not one["path"].endswith("count_tokens")), Decimal(0))


def price(one: dict[str, Any]) -> Decimal:
    for_input, for_output = PRICES[one["body"]["model"]]
    return Decimal(for_input * input_tokens(one) + for_output * one["produced"]) / MILLION


def input_tokens(one: dict[str, Any]) -> int:
    """What the server reports to have read: as the last directive says, else as many as there are words."""
    body = one["body"]
    messages = body.get("messages") or body.get("input")
    # Anthropic's clients may say something of the system's behind what a person says.
    silent = ("assistant", "system") if one["path"].startswith("/anthropic") else ("assistant",)
    told = DIRECTIVE.findall("\n".join(texts(last(messages, silent))))
    said = re.search(r"\binput=(\d+)", told[-1]) if told else None
    if said:
        return int(said[1])
    if one["path"].startswith("/anthropic"):
        return len(written([body.get("system"), messages, body.get("tools")]).split())
    if one["path"].startswith("/v1/chat"):
        return len(written(messages).split())
    return len("\n".join(texts(messages)).split())


def last(messages: Any, silent: tuple[str, ...]) -> Any:
    """The last message that is not of those roles."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return messages
    return next((message for message in reversed(messages) if message.get("role") not in silent), None)


def texts(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def charged(gateway: Gateway, user: str) -> Decimal:
    """What the ledger has of a user, in credits; nothing may be held any more."""
    (balance,) = json.loads(gateway.run("balance", user, "--format", "json"), parse_float=Decimal)
    assert Decimal(balance["held"]) == 0, f"held: {balance}"
    return Decimal(balance["spent"])
