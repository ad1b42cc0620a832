"""Every feature of the chat API through the gateway to every kind of provider, with the official OpenAI client.

Each cell is `yes` (the feature works, whole and streamed), `refused: PARAM` (the gateway says which field this provider can't
take), `omitted: NAMES` (it works without these fields, which the gateway names), or `-` (the provider has no such thing, so
there is nothing to see). What is expected is below; the table is printed at the end of the run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import openai
import pytest

from programs import COLUMNS, KEY, MATRIX, PRICES, Column, Gateway

SECRET = "sk-simulated"
OMITTED = "x-tracking-omitted"
# One red pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": PARAMETERS}}
    for name in ("get_weather", "get_time")
]
CITIES = [{"city": "Bern"}, {"city": "Basel"}]
ANSWER = "The answer to this question is simple enough to be given."
# Providers that sign their reasoning: without it a loop of tools with thinking can't go on.
SIGNING = ("anthropic", "google")

# Where the cell is not `yes`: by feature, then by column.
EXPECTED: dict[str, dict[str, str]] = {
    "n = 2": {
        **dict.fromkeys(("anthropic", "anthropic-new", "ollama", "deepseek", "groq", "tgi"), "refused: n"),
    },
    "logprobs": {
        **dict.fromkeys(("anthropic", "anthropic-new", "groq"), "refused: logprobs"),
        "mistral": "refused: logprobs",
    },
    "a tool that must be called": {"ollama": "refused: tool_choice"},
    "tools and thinking, details lost": {"anthropic": "omitted: reasoning_effort"},
    "sampling": {
        "anthropic": "omitted: top_p",
        "anthropic-new": "omitted: temperature, top_p",
    },
    "harmless parameters": {
        **dict.fromkeys(
            ("anthropic", "anthropic-new"), "omitted: anything, frequency_penalty, logit_bias, presence_penalty, seed"
        ),
        **dict.fromkeys(("google", "google-new"), "omitted: anything, logit_bias, user"),
        "mistral": "omitted: anything, logit_bias, user",
        "ollama": "omitted: anything, logit_bias, user",
        **dict.fromkeys(("deepseek", "groq", "tgi"), "omitted: logit_bias"),
    },
    "embeddings": dict.fromkeys(("anthropic", "anthropic-new"), "refused: model"),
    # They report no such tokens.
    "cached usage": {"ollama": "-"},
    # They have no filter that ends an answer.
    "blocked": {"mistral": "-", "ollama": "-"},
}


@dataclass
class Answer:
    """An answer, put together if it was streamed."""

    text: str = ""
    reasoning: str = ""
    details: list = field(default_factory=list)
    calls: dict[int, dict] = field(default_factory=dict)
    finish: str | None = None
    usage: openai.types.CompletionUsage | None = None

    def add(self, message) -> None:
        """A message, or a piece of one."""
        extra = message.model_extra or {}
        self.text += message.content or ""
        self.reasoning += extra.get("reasoning_content") or ""
        self.details += extra.get("reasoning_details") or []
        for position, call in enumerate(message.tool_calls or []):
            known = self.calls.setdefault(getattr(call, "index", position), {"id": "", "name": "", "arguments": ""})
            known["id"] += call.id or ""
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""

    def arguments(self) -> list:
        return [json.loads(call["arguments"]) for call in self.calls.values()]

    def message(self, with_details: bool = True) -> dict:
        """As a client sends it back."""
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in self.calls.values()
        ]
        message = {"role": "assistant", "content": self.text or None, "tool_calls": calls}
        if with_details and self.details:
            message["reasoning_details"] = self.details
        return message

    def results(self, directive: str) -> list:
        return [
            {"role": "tool", "tool_call_id": call["id"], "content": f"[[sim {directive}]]"} for call in self.calls.values()
        ]


class Talk:
    """A user's requests to one model."""

    def __init__(self, gateway: Gateway, column: Column) -> None:
        self.gateway, self.column = gateway, column
        self.user = gateway.new_user()
        headers = {"X-OpenWebUI-User-Id": self.user, "X-OpenWebUI-User-Email": f"{self.user}@example.com"}
        self.client = openai.OpenAI(
            base_url=gateway.url, api_key=KEY, default_headers=headers, max_retries=0, timeout=30
        )
        self.omitted: list[str] = []

    def heard(self, response) -> None:
        names = response.headers.get(OMITTED, "").split(", ")
        self.omitted += [name for name in names if name and name not in self.omitted]

    def whole(self, **request) -> Answer:
        response = self.client.chat.completions.with_raw_response.create(model=self.column.chat, **request)
        self.heard(response)
        completion = response.parse()
        answer = Answer(finish=completion.choices[0].finish_reason, usage=completion.usage)
        answer.add(completion.choices[0].message)
        return answer

    def streamed(self, **request) -> Answer:
        response = self.client.chat.completions.with_raw_response.create(
            model=self.column.chat, stream=True, stream_options={"include_usage": True}, **request
        )
        self.heard(response)
        answer = Answer()
        for chunk in response.parse():
            answer.usage = chunk.usage or answer.usage
            for choice in chunk.choices:
                answer.add(choice.delta)
                answer.finish = choice.finish_reason or answer.finish
        return answer

    def both(self, directive: str = "", **request) -> Iterator[Answer]:
        """The answer whole, and streamed."""
        request = {"messages": ask(directive), **request}
        yield self.whole(**request)
        yield self.streamed(**request)

    def spent(self) -> Decimal:
        rows = json.loads(self.gateway.run("usage", "--by", "user", "--format", "json"), parse_float=Decimal)
        return sum((Decimal(row["credits"]) for row in rows if row["user_id"] == self.user), Decimal(0))


def ask(directive: str) -> list:
    return [{"role": "user", "content": f"Hello [[sim {directive}]]"}]


FEATURES: dict[str, Callable[[Talk], None]] = {}


def feature(name: str):
    """Registers a row of the matrix. It asserts what a client gets where the feature works."""

    def register(function):
        FEATURES[name] = function
        return function

    return register


@feature("text")
def text(talk: Talk) -> None:
    answer = talk.whole(messages=ask("input=1000 output=200"))
    assert answer.text.startswith(ANSWER) and answer.finish == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1000, 200)


@feature("stream")
def stream(talk: Talk) -> None:
    for directive in ("", "split=1", "chunk=5"):
        answer = talk.streamed(messages=ask(f"input=1000 {directive}"))
        assert (answer.text, answer.finish) == (ANSWER, "stop")
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1000, 12)


@feature("system")
def system(talk: Talk) -> None:
    messages = [
        {"role": "system", "content": "word " * 300},
        {"role": "developer", "content": [{"type": "text", "text": "word " * 300}]},
        *ask("earlier"),
        {"role": "assistant", "content": "An answer."},
        *ask("text=Yes"),
    ]
    for answer in talk.both(messages=messages):
        # The simulated server counts words, so they arrived.
        assert answer.text == "Yes" and answer.usage.prompt_tokens > 600


@feature("image in")
def image(talk: Talk) -> None:
    content = [{"type": "text", "text": "[[sim text=Red]]"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    for answer in talk.both(messages=[{"role": "user", "content": content}]):
        assert answer.text == "Red"


@feature("tools")
def tools(talk: Talk) -> None:
    for answer in talk.both("tool=1 output=9", tools=TOOLS):
        assert [call["name"] for call in answer.calls.values()] == ["get_weather"] and answer.finish == "tool_calls"
        assert answer.arguments() == CITIES[:1] and all(call["id"] for call in answer.calls.values())


@feature("parallel tools")
def parallel_tools(talk: Talk) -> None:
    for answer in talk.both("tools=2 text=Wait", tools=TOOLS):
        assert [call["name"] for call in answer.calls.values()] == ["get_weather", "get_time"]
        assert (answer.arguments(), answer.text, answer.finish) == (CITIES, "Wait", "tool_calls")
        assert len({call["id"] for call in answer.calls.values()}) == 2


@feature("a tool that must be called")
def forced_tool(talk: Talk) -> None:
    choice = {"type": "function", "function": {"name": "get_time"}}
    for answer in talk.both(tools=TOOLS, tool_choice=choice):
        assert [call["name"] for call in answer.calls.values()] == ["get_time"]


@feature("tool results")
def tool_results(talk: Talk) -> None:
    question = ask("tools=2")
    for answer in list(talk.both(messages=question, tools=TOOLS)):
        messages = [*question, answer.message(), *answer.results("text=Sunny")]
        for done in talk.both(messages=messages, tools=TOOLS):
            assert (done.text, done.finish) == ("Sunny", "stop")
        # The next question follows the results at once, as after Stop.
        for done in talk.both(messages=[*messages, *ask("text=Next")], tools=TOOLS):
            assert done.text == "Next"


@feature("reasoning shown")
def reasoning(talk: Talk) -> None:
    for answer in talk.both("thinking=5", reasoning_effort="medium"):
        assert (answer.reasoning, answer.text) == ("Let me think about it", ANSWER)


def thinking_loop(talk: Talk, with_details: bool) -> None:
    question = ask("thinking=3 tools=2")
    rest = {"tools": TOOLS, "reasoning_effort": "medium"}
    for answer in list(talk.both(messages=question, **rest)):
        assert answer.reasoning == "Let me think" and answer.arguments() == CITIES
        assert bool(answer.details) == (talk.column.kind in SIGNING)
        messages = [*question, answer.message(with_details), *answer.results("thinking=2 text=Sunny")]
        for done in talk.both(messages=messages, **rest):
            assert done.text == "Sunny"
            # Thinking went on, unless it had to be left out.
            assert (done.reasoning == "Let me") == ("reasoning_effort" not in talk.omitted)


@feature("tools and thinking, details kept")
def thinking_kept(talk: Talk) -> None:
    thinking_loop(talk, True)


@feature("tools and thinking, details lost")
def thinking_lost(talk: Talk) -> None:
    thinking_loop(talk, False)


@feature("structured output")
def structured_output(talk: Talk) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS, "strict": True}}
    for answer in talk.both(response_format=schema):
        assert json.loads(answer.text) == CITIES[0]


@feature("stop")
def stop(talk: Talk) -> None:
    for stops in (" simple", ["never", " simple"]):
        for answer in talk.both(stop=stops):
            assert (answer.text, answer.finish) == ("The answer to this question is", "stop")


@feature("output limit")
def output_limit(talk: Talk) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        for answer in talk.both("output=50", **{name: 3}):
            assert (answer.text, answer.finish) == ("The answer to", "length")


@feature("n = 2")
def two_choices(talk: Talk) -> None:
    request = {"model": talk.column.chat, "messages": ask("input=10 output=12"), "n": 2}
    completion = talk.client.chat.completions.create(**request)
    assert [choice.message.content for choice in completion.choices] == [ANSWER, ANSWER]
    assert completion.usage.completion_tokens == 24
    texts = {0: "", 1: ""}
    for chunk in talk.client.chat.completions.create(stream=True, **request):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [ANSWER, ANSWER]


@feature("logprobs")
def logprobs(talk: Talk) -> None:
    request = {"model": talk.column.chat, "messages": ask(""), "logprobs": True}
    completion = talk.client.chat.completions.create(**request)
    assert completion.choices[0].logprobs.content[0].token.strip() == "The"
    chunks = list(talk.client.chat.completions.create(stream=True, **request))
    told = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert told and told[0].content[0].token.strip() == "The"


@feature("sampling")
def sampling(talk: Talk) -> None:
    for answer in talk.both(temperature=0.5, top_p=0.9):
        assert answer.text == ANSWER


@feature("harmless parameters")
def harmless(talk: Talk) -> None:
    request = {"seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.5, "user": "somebody", "logit_bias": {"50256": 1}}
    for answer in talk.both(**request, extra_body={"anything": 1}):
        assert answer.text == ANSWER


@feature("usage classes")
def usage_classes(talk: Talk) -> None:
    kind = talk.column.kind
    told = {"input": 1000, "output": 200, "cached_input": 300, "cache_write": 100, "reasoning": 50}
    # Ollama tells none, Mistral neither what was written to a cache nor reasoning, Google not what was written.
    silent = {"ollama": {"cached_input", "cache_write", "reasoning"}, "google": {"cache_write"}}
    silent["mistral"] = {"cache_write", "reasoning"}
    counts = {name: 0 if name in silent.get(kind, ()) else count for name, count in told.items()}
    counts["input"] -= counts["cached_input"] + counts["cache_write"]
    counts["output"] -= counts["reasoning"]
    charge = sum(Decimal(count * PRICES[name]) for name, count in counts.items()) / 1000000
    directive = " ".join(f"{name.removesuffix('_input')}={count}" for name, count in told.items())
    for answer in talk.both(directive):
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1000, 200)
        assert Decimal(str(answer.usage.model_extra["credits"])) == charge
    assert talk.spent() == 2 * charge


@feature("cached usage")
def cached_usage(talk: Talk) -> None:
    for answer in talk.both("input=1000 cached=300"):
        details = answer.usage.prompt_tokens_details
        if talk.column.kind == "ollama":
            assert details is None or not details.cached_tokens
            return missing()
        assert details.cached_tokens == 300


@feature("missing usage")
def missing_usage(talk: Talk) -> None:
    for answer in talk.both("fault=nousage"):
        assert answer.text == ANSWER and answer.usage.model_extra["estimated"]
    assert talk.spent() > 0


@feature("embeddings")
def embeddings(talk: Talk) -> None:
    for encoding in ("float", "base64"):
        response = talk.client.embeddings.with_raw_response.create(
            model=talk.column.embedding, input=["one", "two [[sim input=70]]"], encoding_format=encoding
        )
        talk.heard(response)
        answer = response.parse()
        assert [one.index for one in answer.data] == [0, 1] and answer.usage.prompt_tokens > 0
        assert answer.data[1].embedding == ([0.5, 0.25] if encoding == "float" else "AAAAPwAAgD4=")


@feature("error 429")
def too_many(talk: Talk) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.RateLimitError) as caught:
            talk.client.chat.completions.create(
                model=talk.column.chat, messages=ask("status=429 retry_after=7"), stream=streamed
            )
        assert caught.value.response.headers["retry-after"] == "7" and SECRET not in str(caught.value)
        assert caught.value.code != "insufficient_quota"


@feature("error 500")
def failing(talk: Talk) -> None:
    for status in (500, 503, 529):
        with pytest.raises(openai.InternalServerError) as caught:
            talk.client.chat.completions.create(model=talk.column.chat, messages=ask(f"status={status}"))
        assert SECRET not in str(caught.value)
    assert talk.spent() == 0


@feature("error 400")
def rejected(talk: Talk) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        talk.client.chat.completions.create(model=talk.column.chat, messages=ask("status=400"))
    assert "simulated error" in str(caught.value) and SECRET not in str(caught.value)


@feature("a stream that breaks off")
def breaking(talk: Talk) -> None:
    for fault in ("error", "disconnect", "half", "end"):
        before = talk.spent()
        received = ""
        with pytest.raises(openai.APIError) as caught:
            for chunk in talk.client.chat.completions.create(
                model=talk.column.chat, messages=ask(f"output=50 delay=2 fault={fault} at=6"), stream=True
            ):
                received += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert received and SECRET not in str(caught.value)
        assert talk.spent() > before


@feature("blocked")
def blocked(talk: Talk) -> None:
    if talk.column.kind in ("mistral", "ollama"):
        return missing()
    for answer in talk.both("blocked=1 input=10"):
        assert answer.finish == "content_filter"
        # Google and Anthropic say why in a field of its own, which becomes a text.
        why = {"google": "blocked", "anthropic": "stopped this answer"}.get(talk.column.kind)
        assert (why in answer.text) if why else not answer.text


@feature("Stop in mid-stream")
def stopped(talk: Talk) -> None:
    chunks = talk.client.chat.completions.create(
        model=talk.column.chat, messages=ask("output=100000 delay=5"), stream=True
    )
    for _ in range(5):
        next(chunks)
    chunks.close()
    # The command takes long enough by itself.
    assert any(talk.spent() > 0 for _ in range(100))


class Missing(Exception):
    """The provider has no such thing."""


def missing() -> None:
    raise Missing


def cell(run: Callable[[Talk], None], talk: Talk) -> str:
    try:
        run(talk)
    except Missing:
        return "-"
    except openai.BadRequestError as error:
        if error.param is None:
            raise
        return f"refused: {error.param}"
    return f"omitted: {', '.join(sorted(talk.omitted))}" if talk.omitted else "yes"


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
@pytest.mark.parametrize("name", FEATURES)
def test_matrix(everywhere: Gateway, name: str, column: Column) -> None:
    row = MATRIX.setdefault(name, {})
    row[column.name] = "failed"
    row[column.name] = cell(FEATURES[name], Talk(everywhere, column))
    assert row[column.name] == EXPECTED.get(name, {}).get(column.name, "yes")


def test_what_is_expected_is_about_what_there_is() -> None:
    names = {column.name for column in COLUMNS}
    assert set(EXPECTED) <= set(FEATURES) and all(set(cells) <= names for cells in EXPECTED.values())
