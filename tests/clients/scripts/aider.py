"""aider, for OpenAI's Chat Completions or Anthropic's messages."""

from cells import ANTHROPIC, MODEL, OPENAI, ROUTE, Task, run
from commands import HOME, shown

# The rest keeps it from the internet, and from asking what to do.
OPTIONS = (
    "--no-git",
    "--yes-always",
    "--no-check-update",
    "--no-show-release-notes",
    "--analytics-disable",
    "--no-pretty",
)
OPTIONS += (
    "--no-show-model-warnings",
    "--no-detect-urls",
    "--disable-playwright",
    "--map-tokens",
    "0",
    "--edit-format",
    "ask",
)


def aider(task: Task, *options: str) -> str:
    if ROUTE == "messages":
        model, place = f"anthropic/{MODEL}", {"ANTHROPIC_API_BASE": ANTHROPIC, "ANTHROPIC_API_KEY": task.key}
    else:
        model, place = f"openai/{MODEL}", {"OPENAI_API_BASE": OPENAI, "OPENAI_API_KEY": task.key}
    # Otherwise it fetches a list of prices.
    prices = HOME / ".aider/caches/model_prices_and_context_window.json"
    prices.parent.mkdir(parents=True, exist_ok=True)
    prices.write_text('{"sample_spec": {}}')
    return shown("aider", "--model", model, *OPTIONS, *options, "--message", task.ask, **place)


def answer(text: str) -> str:
    """What stands between its words about itself and those about tokens."""
    return " ".join(text.partition("Repo-map: disabled")[2].partition("Tokens: ")[0].split()) or text


def plain(task: Task) -> str:
    return answer(aider(task, "--no-stream"))


def stream(task: Task) -> str:
    return answer(aider(task, "--stream"))


run(plain=plain, stream=stream)
