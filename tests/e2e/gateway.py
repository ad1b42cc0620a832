"""Our gateway on Open WebUI's database, and our commands."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from databases import Database
from early import early_zone
from processes import PROGRAMS, Program, clean_environment

KEY = "a-forwarding-key-for-tests"
MILLION = 1_000_000
# Credits for a million tokens of input and output.
PRICES = {"gpt-test": (3000, 15000), "free-test": (0, 0), "embedding-test": (100, 0)}
# Models of other providers, and a second one of OpenAI's; they cost as much as gpt-test.
OTHERS = [
    ("openai", "gpt-other-test"),
    ("anthropic", "claude-sonnet-4-5-test"),
    ("google_genai", "gemini-2.5-flash-test"),
    ("mistral", "mistral-medium-3-5-test"),
    ("ollama", "llama-test"),
]
# Of those, what everyone may use in Open WebUI.
SHARED = ["gpt-test", "free-test"]
# The templates that Open WebUI fills in.
HEADERS = {
    "X-Tracking-Model": "{{MODEL_ID}}",
    "X-Tracking-Task": "{{TASK}}",
    "X-Tracking-Message": "{{MESSAGE_ID}}",
}
LEDGER = "SELECT * FROM token_tracking_ledger WHERE user_id = :user ORDER BY started_at"


def cost(model: str, inputs: int, outputs: int) -> Decimal:
    """Credits."""
    for_input, for_output = PRICES[model]
    return Decimal(for_input * inputs + for_output * outputs) / MILLION


class Commands:
    """`owui-token-tracking` on a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.environment = {**clean_environment(), "DATABASE_URL": database.url}

    def run(self, *arguments: str, **variables: str) -> str:
        done = self.tried(*arguments, **variables)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def tried(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same for one that may fail."""
        return subprocess.run(
            [PROGRAMS / "owui-token-tracking", *arguments],
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self.run(*arguments, "--format", "json"), parse_float=Decimal)

    def init(self) -> None:
        """Our tables, with the prices of the simulated models."""
        priced = [("openai", model, price) for model, price in PRICES.items()]
        priced += [(provider, model, PRICES["gpt-test"]) for provider, model in OTHERS]
        models = [
            {
                "id": model,
                "provider": provider,
                "name": model,
                "input_cost_credits": for_input,
                "per_input_tokens": MILLION,
                "output_cost_credits": for_output,
                "per_output_tokens": MILLION,
            }
            for provider, model, (for_input, for_output) in priced
        ]
        prices = self.database.folder / "models.json"
        prices.write_text(json.dumps(models))
        self.run("init", "--create", "--model-json", str(prices))
        # `init` leaves prices as they are where there are some.
        self.run("settings", "set", "timezone", early_zone())
        self.run("pricing", "upsert", "--json", str(prices))

    def spent(self, user: str) -> Decimal:
        """Credits of today, as `usage` and `balance` both say."""
        of = [row for row in self.json("usage", "--by", "user") if row["user_id"] == user]
        used = sum((Decimal(row["credits"]) for row in of), Decimal(0))
        (balance,) = self.json("balance", user)
        assert Decimal(balance["spent"]) == used and Decimal(balance["held"]) == 0
        return used

    def ledger(self, user: str) -> list[dict[str, Any]]:
        """A user's rows."""
        return self.database.rows(LEDGER, user=user)


class Gateway(Commands):
    """A running `serve`."""

    def __init__(self, database: Database, provider: str, secret: str | None) -> None:
        super().__init__(database)
        self.init()
        signed = f'jwt_secret = "{secret}"\n' if secret else ""
        config = database.folder / "owui-token-tracking.toml"
        config.write_text(
            f'[gateway]\nlisten = "127.0.0.1:0"\nkey = "{KEY}"\n{signed}\n'
            f'[[provider]]\nname = "openai"\nkind = "openai"\nbase_url = "{provider}"\napi_key = "a-provider-key"\n'
        )
        serve = [PROGRAMS / "owui-token-tracking", "serve", "--config", config]
        self.program = Program(serve, self.environment, database.folder / "gateway.log")
        self.url = f"{self.program.address()}/v1"


@contextmanager
def serving(database: Database, provider: str, secret: str | None = None) -> Iterator[Gateway]:
    """Starts a gateway; at its end every account must be right."""
    gateway = Gateway(database, provider, secret)
    try:
        yield gateway
    finally:
        code = gateway.program.stop()
    assert code == 0, gateway.program.tail()
    gateway.run("verify")
