"""How an application reads an answer with each vendor's own client, unmodified: piece by piece, and with the client's own helper
that puts a stream together."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import anthropic
import mistralai.client
import ollama
import openai
from cases import Case
from google import genai
from google.genai import types

TEXT = "Say hello."
MESSAGES: Any = [{"role": "user", "content": TEXT}]
SECONDS = 30


class ErrorEvent(Exception):
    """An event that tells an error, which the client hands on like any other."""


@dataclass
class Call:
    """A call of a tool."""

    name: str = ""
    arguments: str = ""

    def said(self) -> str:
        """As text that is the same for the same arguments."""
        try:
            return f"{self.name}({json.dumps(json.loads(self.arguments), sort_keys=True)})"
        except json.JSONDecodeError:
            return f"{self.name}({self.arguments!r}, which is no JSON)"


@dataclass
class Reading:
    """What has been read so far."""

    text: str = ""
    thinking: str = ""
    calls: dict[Any, Call] = field(default_factory=dict)
    finish: str | None = None
    # Of the input, of the output.
    usage: tuple[int | None, int | None] | None = None
    # What the gateway adds to the usage.
    credits: Decimal | None = None
    error: Exception | None = None

    def call(self, key: Any, name: str | None, arguments: Any = None) -> None:
        """A call, or a piece of one."""
        call = self.calls.setdefault(key, Call())
        call.name += name or ""
        call.arguments += arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)

    def said(self) -> list[str]:
        """The calls as texts."""
        return [call.said() for call in self.calls.values()]

    def used(self, usage: Any, of_input: str, of_output: str) -> None:
        """Takes a usage, if there is one."""
        if usage is not None:
            self.usage = (getattr(usage, of_input, None), getattr(usage, of_output, None))
            credits = (getattr(usage, "model_extra", None) or {}).get("credits")
            self.credits = self.credits if credits is None else Decimal(str(credits))


@dataclass(frozen=True)
class Place:
    """Whom a client asks: a server without its `/v1`, and as who."""

    url: str
    key: str = "a-key"
    user: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What Open WebUI adds to its users' requests."""
        return {"X-OpenWebUI-User-Id": self.user} if self.user else {}


# Asks a place for the answer of a case, and yields after each piece of it.
Reader = Callable[[Place, Case, Reading], Iterator[None]]


def read(reader: Reader, place: Place, case: Case, heard: Callable[[Reading], None] | None = None) -> Reading:
    """Reads to the end, or until the client raises something. `heard` is told after each piece."""
    reading = Reading()
    try:
        for _ in reader(place, case, reading):
            if heard is not None:
                heard(reading)
    except Exception as error:  # what they raise is what is looked at here
        reading.error = error
    return reading


# OpenAI


@cache
def openai_at(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=SECONDS)


def openai_client(place: Place) -> openai.OpenAI:
    return openai_at(place.url, place.key).with_options(default_headers=place.headers)


def take_message(reading: Reading, message: Any, position: int = 0) -> None:
    """A message of a chat, or a piece of one; several choices are one text behind the other."""
    if message is None:  # Azure's results of filters come so
        return
    extra = message.model_extra or {}
    reading.text += message.content or ""
    reading.thinking += extra.get("reasoning_content") or extra.get("reasoning") or ""
    for number, call in enumerate(message.tool_calls or []):
        reading.call((position, getattr(call, "index", number)), call.function.name, call.function.arguments)


def openai_chat(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    create = openai_client(place).chat.completions.create
    if not case.stream:
        take_completion(reading, create(model=case.model, messages=MESSAGES))
        return
    for chunk in create(model=case.model, messages=MESSAGES, stream=True):
        for choice in chunk.choices:
            take_message(reading, choice.delta, choice.index)
            reading.finish = choice.finish_reason or reading.finish
        reading.used(chunk.usage, "prompt_tokens", "completion_tokens")
        yield


def openai_chat_helper(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    options: Any = {"include_usage": True}
    chat = openai_client(place).chat.completions
    with chat.stream(model=case.model, messages=MESSAGES, stream_options=options) as stream:
        for event in stream:
            if event.type == "chunk":
                take_completion(reading, event.snapshot)
            yield
        # Checks it: whoever asks for an answer to be parsed gets an error for one that was cut.
        with contextlib.suppress(openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            take_completion(reading, stream.get_final_completion())


def take_completion(reading: Reading, answer: Any) -> None:
    """A whole answer, or what has been put together of one."""
    reading.text, reading.thinking, reading.calls = "", "", {}
    for choice in answer.choices:
        take_message(reading, choice.message, choice.index)
        reading.finish = choice.finish_reason
    reading.used(answer.usage, "prompt_tokens", "completion_tokens")


def openai_completions(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    create = openai_client(place).completions.create
    chunks = create(model=case.model, prompt=TEXT, stream=True) if case.stream else [create(model=case.model, prompt=TEXT)]
    for chunk in chunks:
        for choice in chunk.choices:
            reading.text += choice.text
            reading.finish = choice.finish_reason or reading.finish
        reading.used(chunk.usage, "prompt_tokens", "completion_tokens")
        yield


def take_response(reading: Reading, answer: Any) -> None:
    reading.text = answer.output_text
    for number, item in enumerate(answer.output):
        if item.type == "function_call":
            reading.call(number, item.name, item.arguments)
        elif item.type == "reasoning":
            reading.thinking += "".join(part.text for part in item.summary)
    end_response(reading, answer)


def end_response(reading: Reading, answer: Any) -> None:
    reading.finish = answer.status
    reading.used(answer.usage, "input_tokens", "output_tokens")


def openai_responses(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    create = openai_client(place).responses.create
    if not case.stream:
        take_response(reading, create(model=case.model, input=TEXT))
        return
    for event in create(model=case.model, input=TEXT, stream=True):
        if event.type in ("response.output_text.delta", "response.refusal.delta"):
            reading.text += event.delta
        elif event.type == "response.reasoning_summary_text.delta":
            reading.thinking += event.delta
        elif event.type == "response.output_item.added" and event.item.type == "function_call":
            reading.call(event.output_index, event.item.name)
        elif event.type == "response.function_call_arguments.delta":
            reading.call(event.output_index, None, event.delta)
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            end_response(reading, event.response)
            if event.type == "response.failed":
                raise ErrorEvent(event.response.error)
        elif event.type == "error":
            raise ErrorEvent(event.message)
        yield


def openai_responses_helper(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    with openai_client(place).responses.stream(model=case.model, input=TEXT) as stream:
        for _ in stream:
            yield
        take_response(reading, stream.get_final_response())


def openai_embeddings(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    answer = openai_client(place).embeddings.create(model=case.model, input=TEXT)
    reading.text = " ".join(str(one.embedding) for one in answer.data)
    reading.used(answer.usage, "prompt_tokens", "total_tokens")
    yield


# Anthropic


@cache
def anthropic_at(url: str, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=SECONDS)


def anthropic_client(place: Place) -> anthropic.Anthropic:
    return anthropic_at(place.url, place.key).with_options(default_headers=place.headers)


def take_block(reading: Reading, number: int, block: Any) -> None:
    if block.type == "text":
        reading.text += block.text
    elif block.type == "thinking":
        reading.thinking += block.thinking
    elif block.type == "tool_use":
        reading.call(number, block.name, block.input)


def take_whole_message(reading: Reading, message: Any) -> None:
    reading.text, reading.thinking, reading.calls = "", "", {}
    for number, block in enumerate(message.content):
        take_block(reading, number, block)
    reading.finish = message.stop_reason
    reading.used(message.usage, "input_tokens", "output_tokens")


def anthropic_messages(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    create = anthropic_client(place).messages.create
    request: Any = {"model": case.model, "messages": MESSAGES, "max_tokens": 8000}
    if not case.stream:
        take_whole_message(reading, create(**request))
        return
    for event in create(**request, stream=True):
        if event.type == "message_start":
            reading.used(event.message.usage, "input_tokens", "output_tokens")
        elif event.type == "content_block_start":
            block = event.content_block
            if block.type == "tool_use":
                reading.call(event.index, block.name)
            else:
                take_block(reading, event.index, block)
        elif event.type == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":
                reading.text += delta.text
            elif delta.type == "thinking_delta":
                reading.thinking += delta.thinking
            elif delta.type == "input_json_delta":
                reading.call(event.index, None, delta.partial_json)
        elif event.type == "content_block_stop" and event.index in reading.calls:
            call = reading.calls[event.index]
            call.arguments = call.arguments or "{}"
        elif event.type == "message_delta":
            reading.finish = event.delta.stop_reason or reading.finish
            before = reading.usage
            reading.used(event.usage, "input_tokens", "output_tokens")
            if before and reading.usage and reading.usage[0] is None:
                reading.usage = (before[0], reading.usage[1])
        yield


def anthropic_messages_helper(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    messages = anthropic_client(place).messages
    with messages.stream(model=case.model, messages=MESSAGES, max_tokens=8000) as stream:
        for event in stream:
            take_whole_message(reading, stream.current_message_snapshot)
            if event.type == "message_delta":
                reading.used(event.usage, "input_tokens", "output_tokens")
            yield
        take_whole_message(reading, stream.get_final_message())


# The others


@cache
def google_at(url: str) -> genai.Client:
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=url, api_version="v1beta", timeout=SECONDS * 1000, retry_options=once)
    return genai.Client(api_key="a-key", http_options=options)


def google_content(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    models = google_at(place.url).models
    request: Any = {"model": case.model, "contents": TEXT}
    whole, pieces = models.generate_content, models.generate_content_stream
    for answer in pieces(**request) if case.stream else [whole(**request)]:
        for one in answer.candidates or []:
            for part in (one.content.parts if one.content else None) or []:
                if part.function_call:
                    reading.call(len(reading.calls), part.function_call.name, part.function_call.args or {})
                elif part.inline_data:
                    data = base64.b64encode(part.inline_data.data or b"").decode()
                    reading.text += f"![image](data:{part.inline_data.mime_type};base64,{data})"
                elif part.thought:
                    reading.thinking += part.text or ""
                else:
                    reading.text += part.text or ""
            reading.finish = one.finish_reason.value if one.finish_reason else reading.finish
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            reading.finish = answer.prompt_feedback.block_reason.value
        reading.used(answer.usage_metadata, "prompt_token_count", "candidates_token_count")
        yield


@cache
def mistral_at(url: str) -> mistralai.client.Mistral:
    return mistralai.client.Mistral(api_key="a-key", server_url=url, timeout_ms=SECONDS * 1000)


def mistral_chat(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    chat = mistral_at(place.url).chat
    request: Any = {"model": case.model, "messages": MESSAGES}
    for answer in (event.data for event in chat.stream(**request)) if case.stream else [chat.complete(**request)]:
        for choice in answer.choices:
            message = choice.delta if case.stream else choice.message
            parts = message.content or []
            for part in [parts] if isinstance(parts, str) else parts:
                if isinstance(part, str):
                    reading.text += part
                elif part.type == "thinking":
                    reading.thinking += "".join(one.text for one in part.thinking)
                elif part.type == "text":
                    reading.text += part.text
            for number, call in enumerate(message.tool_calls or []):
                reading.call(call.index or number, call.function.name, call.function.arguments)
            reading.finish = choice.finish_reason or reading.finish
        reading.used(answer.usage, "prompt_tokens", "completion_tokens")
        yield


@cache
def ollama_at(url: str) -> ollama.Client:
    return ollama.Client(host=url, timeout=SECONDS)


def ollama_chat(place: Place, case: Case, reading: Reading) -> Iterator[None]:
    client = ollama_at(place.url)
    request: Any = {"model": case.model, "messages": MESSAGES}
    for line in client.chat(**request, stream=True) if case.stream else [client.chat(**request)]:
        reading.text += line.message.content or ""
        reading.thinking += line.message.thinking or ""
        for call in line.message.tool_calls or []:
            reading.call(len(reading.calls), call.function.name, dict(call.function.arguments))
        if line.done:
            reading.finish = line.done_reason
            reading.used(line, "prompt_eval_count", "eval_count")
        yield


# How each client is called in the tables.
HELPER = ", helper"
NAMES: dict[Reader, str] = {
    openai_chat: "openai",
    openai_chat_helper: "openai" + HELPER,
    openai_completions: "openai",
    openai_responses: "openai",
    openai_responses_helper: "openai" + HELPER,
    openai_embeddings: "openai",
    anthropic_messages: "anthropic",
    anthropic_messages_helper: "anthropic" + HELPER,
    google_content: "google-genai",
    mistral_chat: "mistralai",
    ollama_chat: "ollama",
}


def readers(case: Case) -> list[tuple[Reader, Reader]]:
    """Who reads a case: at the server itself, and through the gateway."""
    if case.path == "/v1/embeddings":
        return [(openai_embeddings, openai_embeddings)]
    if case.path == "/v1/completions":
        return [(openai_completions, openai_completions)]
    if case.path == "/v1/responses":
        pairs = [(openai_responses, openai_responses), (openai_responses_helper, openai_responses_helper)]
    elif case.kind == "anthropic":
        pairs = [
            (anthropic_messages, anthropic_messages),
            (anthropic_messages_helper, anthropic_messages_helper),
            (anthropic_messages, openai_chat),
            (anthropic_messages, openai_chat_helper),
        ]
    else:
        native = {"google": google_content, "mistral": mistral_chat, "ollama": ollama_chat}.get(case.kind)
        helper = native or openai_chat_helper
        pairs = [(native or openai_chat, openai_chat), (helper, openai_chat_helper)]
    helpers = (openai_chat_helper, openai_responses_helper, anthropic_messages_helper)
    return [pair for pair in pairs if case.stream or pair[1] not in helpers]
