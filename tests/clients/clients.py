"""The clients: where each is installed, which script drives it, and what it can't do by itself."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / "environments"
# The columns of the matrix.
CELLS = ["plain", "stream", "tools", "structured", "embeddings", "limit", "key"]
COMMANDS = ("aider.py", "llm_command.py")
NO_EMBEDDINGS = {"embeddings": "the format has none"}


@dataclass(frozen=True)
class Client:
    """A row of the matrix."""

    name: str
    # The package whose version the row names, and the environment that has it.
    package: str
    environment: str
    script: str
    # Of the gateway's routes the one that it uses: chat, responses or messages.
    route: str
    quick: bool = False
    # Cells that it does not have, with the reason.
    without: dict[str, str] = field(default_factory=dict)
    # Its own switches that keep it from the internet.
    switches: dict[str, str] = field(default_factory=dict)
    # The model to ask for, where it is not the usual one of the route; and what the row says of that.
    model: str = ""
    note: str = ""
    # Whom it asks in vain, because it has no switch for that.
    asks: frozenset[str] = frozenset()
    # It takes a number like 500 anywhere in an error for a status, and tries again: it may do so once by chance.
    reads_numbers: bool = False

    @property
    def is_command(self) -> bool:
        """Whether it is a command line, which our own Python drives."""
        return self.environment == "node-agents" or self.script in COMMANDS

    @property
    def is_node(self) -> bool:
        """Whether npm has it."""
        return self.environment.startswith("node-")

    @property
    def version(self) -> str:
        """As it is pinned."""
        if self.is_node:
            wanted = json.loads((ENVIRONMENTS / self.environment / "package.json").read_text())
            return str(wanted["dependencies"][self.package])
        wanted = (ENVIRONMENTS / f"{self.environment}.txt").read_text()
        found = re.search(rf"^{re.escape(self.package)}(?:\[[^]]*\])?==(\S+)", wanted, re.MULTILINE)
        assert found, f"{self.package} is not pinned in {self.environment}.txt"
        return found[1]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, [f"{self.name} {self.version}", self.route, self.note]))


def both(name: str, package: str, environment: str, script: str, quick: bool = False) -> list[Client]:
    """A client of Chat Completions and of Responses."""
    return [
        Client(name, package, environment, script, "chat", quick),
        Client(name, package, environment, script, "responses", quick, NO_EMBEDDINGS),
    ]


# Otherwise it fetches lists of models and of Anthropic's betas.
LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}
CLAUDE_CODE = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
OPENCODE = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
# It installs a package for plugins in the background.
OPENCODE_ASKS = frozenset({"registry.npmjs.org:443"})
AN_AGENT = {"embeddings": "an agent has none"}
WHOLE = AN_AGENT | {"stream": "it shows an answer when it is whole"}
NO_STRUCTURE = WHOLE | {"structured": "it has no such option"}
ONLY_STRUCTURE = {
    "plain": "its answers are models",
    "stream": "its answers are models; under structured one is read in parts too",
    "tools": "it has no loop of them",
    "embeddings": "it has none",
}
HAS_NO_EMBEDDINGS = {"embeddings": "it has none"}
OWN_FORM = {
    cell: "it wants answers in a form of its own, which the simulated server can't make" for cell in ("stream", "tools")
}
TEXTS = {cell: "it edits files by what the answer says" for cell in ("tools", "structured", "embeddings")}
# Behind what is said to one that it knows it puts a message of its own, which the simulated server would take for the question.
AIDERS_MODEL = "responses"
CLIENTS = [
    *both("openai (Python)", "openai", "sdks", "openai_sdk.py", quick=True),
    Client("anthropic (Python)", "anthropic", "sdks", "anthropic_sdk.py", "messages", True, NO_EMBEDDINGS),
    *both("openai (Node)", "openai", "node-sdks", "openai_sdk.mjs", quick=True),
    Client("anthropic (Node)", "@anthropic-ai/sdk", "node-sdks", "anthropic_sdk.mjs", "messages", True, NO_EMBEDDINGS),
    Client("AI SDK", "ai", "node-sdks", "ai_sdk.mjs", "chat", True),
    Client("AI SDK", "ai", "node-sdks", "ai_sdk.mjs", "responses", True),
    Client("AI SDK", "ai", "node-sdks", "ai_sdk.mjs", "messages", True, NO_EMBEDDINGS),
    Client("litellm", "litellm", "litellm", "litellm_sdk.py", "chat", True, {}, LITELLM),
    Client("litellm", "litellm", "litellm", "litellm_sdk.py", "messages", True, NO_EMBEDDINGS, LITELLM),
    Client(
        "Claude Code",
        "@anthropic-ai/claude-code",
        "node-agents",
        "claude_code.py",
        "messages",
        False,
        AN_AGENT,
        CLAUDE_CODE,
    ),
    Client("Codex", "@openai/codex", "node-agents", "codex.py", "responses", without=WHOLE),
    # It offers other tools then.
    Client("Codex", "@openai/codex", "node-agents", "codex.py", "responses", False, WHOLE, {}, "chat", "unknown model"),
    *(
        Client(
            "opencode",
            "opencode-ai",
            "node-agents",
            "opencode.py",
            route,
            False,
            NO_STRUCTURE,
            OPENCODE,
            asks=OPENCODE_ASKS,
            reads_numbers=True,
        )
        for route in ("chat", "responses", "messages")
    ),
    *both("LangChain (Python)", "langchain-openai", "frameworks", "langchain_sdk.py"),
    Client(
        "LangChain (Python)", "langchain-anthropic", "frameworks", "langchain_sdk.py", "messages", without=NO_EMBEDDINGS
    ),
    *both("LangChain (Node)", "@langchain/openai", "node-frameworks", "langchain_sdk.mjs"),
    Client("LlamaIndex", "llama-index-llms-openai-like", "frameworks-older", "llama_index_sdk.py", "chat"),
    Client(
        "LlamaIndex",
        "llama-index-llms-anthropic",
        "frameworks-older",
        "llama_index_sdk.py",
        "messages",
        without=NO_EMBEDDINGS,
    ),
    *both("Pydantic AI", "pydantic-ai-slim", "frameworks", "pydantic_ai_sdk.py"),
    Client(
        "Pydantic AI", "pydantic-ai-slim", "frameworks-older", "pydantic_ai_sdk.py", "messages", without=NO_EMBEDDINGS
    ),
    *(
        Client(
            "OpenAI Agents SDK",
            "openai-agents",
            "frameworks-older",
            "openai_agents_sdk.py",
            route,
            without=HAS_NO_EMBEDDINGS,
        )
        for route in ("chat", "responses")
    ),
    Client("Instructor", "instructor", "frameworks", "instructor_sdk.py", "chat", without=ONLY_STRUCTURE),
    Client("Instructor", "instructor", "frameworks", "instructor_sdk.py", "messages", without=ONLY_STRUCTURE),
    Client("DSPy", "dspy", "frameworks", "dspy_sdk.py", "chat", False, OWN_FORM, LITELLM),
    Client("smolagents", "smolagents", "frameworks", "smolagents_sdk.py", "chat", without=HAS_NO_EMBEDDINGS),
    Client("aider", "aider-chat", "aider", "aider.py", "chat", False, TEXTS, LITELLM, AIDERS_MODEL),
    Client("aider", "aider-chat", "aider", "aider.py", "messages", False, TEXTS, LITELLM),
    Client(
        "llm",
        "llm",
        "frameworks",
        "llm_command.py",
        "chat",
        without={"embeddings": "its models for them have no base URL"},
    ),
]
