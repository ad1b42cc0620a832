"""The tracked pipes in an Open WebUI, put there by our own command, and what they have charged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway import Commands, cost
from open_webui import OpenWebUI
from upstream import Upstream
from waiting import until

MODEL = "openai.gpt-test"
FREE = "openai.free-test"
# What most tests ask, and what that costs.
ASK = "[[sim input=1000 output=100]]"
ONE = cost("gpt-test", 1000, 100)
MICRO = Decimal(1_000_000)


@dataclass(frozen=True)
class Vendor:
    """A pipe. `provider` is its Function's id, too."""

    provider: str
    model: str
    # The variables that `install` takes its key and its address from, and that address's path.
    key: str
    base: str
    path: str

    @property
    def named(self) -> str:
        """The model's id in Open WebUI."""
        return f"{self.provider}.{self.model}"

    def variables(self, upstream: Upstream) -> dict[str, str]:
        return {self.key: "a-provider-key", self.base: f"{upstream.url}/{self.path}"}


VENDORS = [
    Vendor("openai", "gpt-test", "OPENAI_API_KEY", "OPENAI_API_BASE_URL", "v1"),
    Vendor("anthropic", "claude-sonnet-4-5-test", "ANTHROPIC_API_KEY", "ANTHROPIC_API_BASE_URL", "anthropic"),
    Vendor("google_genai", "gemini-2.5-flash-test", "GOOGLE_API_KEY", "GOOGLE_API_BASE_URL", "google"),
    Vendor("mistral", "mistral-medium-3-5-test", "MISTRAL_API_KEY", "MISTRAL_API_BASE_URL", "mistral/v1"),
    Vendor("ollama", "llama-test", "OLLAMA_API_KEY", "OLLAMA_BASE_URL", "ollama"),
]
OPENAI, ANTHROPIC, GOOGLE, MISTRAL, OLLAMA = VENDORS


class Tracked(Commands):
    """An Open WebUI with all tracked pipes."""

    def __init__(self, open_webui: OpenWebUI, upstream: Upstream) -> None:
        super().__init__(open_webui.database)
        self.open_webui, self.upstream = open_webui, upstream
        self.init()

    def install(self, *arguments: str, vendors: list[Vendor] = VENDORS) -> list[dict[str, str]]:
        """The steps that `install` took."""
        variables = {name: value for vendor in vendors for name, value in vendor.variables(self.upstream).items()}
        return json.loads(self.run(*self.address(), *arguments, "--format", "json", **variables))

    def address(self) -> list[str]:
        """The beginning of that command."""
        return ["install", "--url", self.open_webui.url, "--token", self.open_webui.admin.token]

    def rows(self, user: str, count: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """A user's rows in the ledger, as soon as there are so many."""
        return until(
            lambda: rows if len(rows := self.ledger(user)) >= count else None, f"{count} requests are charged", seconds
        )

    def charge(self, user: str) -> Decimal:
        """All that a user was charged, in credits, whoever pays for it."""
        return sum((Decimal(row["charge"]) for row in self.ledger(user)), Decimal(0)) / MICRO

    def held(self) -> int:
        """How many requests have credits set aside."""
        return self.database.rows("SELECT count(*) AS count FROM token_tracking_hold")[0]["count"]

    def locked_out(self) -> list[str]:
        """What was logged of a database that stayed locked; but for the lease, which is renewed again two seconds later."""
        log = self.open_webui.program.log.read_text().splitlines()
        return [line for line in log if "database is locked" in line and "the lease could not be renewed" not in line]

    def settled(self) -> None:
        """Nothing is set aside any more, and every account agrees with the ledger."""
        until(lambda: self.held() == 0, "every request is charged")
        self.run("verify")


@contextmanager
def tracking(open_webui: OpenWebUI, upstream: Upstream) -> Iterator[Tracked]:
    """Installs the pipes; at the end every account must be right."""
    tracked = Tracked(open_webui, upstream)
    tracked.install()
    open_webui.models()
    yield tracked
    tracked.settled()
