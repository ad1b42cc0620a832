"""The vendors' own clients, unmodified, against the simulated model server: it speaks their protocols as they expect."""

import json
import re

import anthropic
import httpx
import mistralai.client
import ollama
import openai
import pytest
from google import genai
from google.genai import types

SECRET = "sk-simulated"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": PARAMETERS}}
    for name in ("get_weather", "get_time")
]
ANTHROPIC_TOOLS = [{"name": name, "input_schema": PARAMETERS} for name in ("get_weather", "get_time")]
GOOGLE_TOOLS = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name=name, parameters_json_schema=PARAMETERS)
            for name in ("get_weather", "get_time")
        ]
    )
]
CITIES = [{"city": "Bern"}, {"city": "Basel"}]
USAGE = "input=1000 output=200 cached=300"


@pytest.fixture
def root(provider: str) -> str:
    return provider.removesuffix("/v1")


def say(directive: str, role: str = "user") -> dict:
    return {"role": role, "content": f"Hello [[sim {directive}]]"}


# OpenAI


@pytest.fixture
def openai_client(provider: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider, api_key="a-key", max_retries=0, timeout=30)


def test_openai_chat(openai_client: openai.OpenAI) -> None:
    ask = openai_client.chat.completions.create
    plain = ask(model="gpt-test", messages=[say(f"{USAGE} audio=40 thinking=3 reasoning=50")], n=2, logprobs=True)
    first = plain.choices[0]
    assert len(plain.choices) == 2 and first.finish_reason == "stop" and first.message.content.startswith("The answer")
    assert first.message.model_extra["reasoning_content"] == "Let me think"
    assert first.logprobs.content[0].token == "The "
    usage = plain.usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (1000, 300)
    assert (usage.prompt_tokens_details.audio_tokens, usage.completion_tokens) == (40, 400)
    assert usage.completion_tokens_details.reasoning_tokens == 100
    with openai_client.chat.completions.stream(
        model="gpt-test", messages=[say("tools=2 thinking=2")], tools=OPENAI_TOOLS
    ) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments) for call in calls] == CITIES
    for request, reason in [
        ({"messages": [say("output=9")], "max_completion_tokens": 4}, "length"),
        ({"messages": [say("blocked=1")]}, "content_filter"),
        ({"messages": [say("")], "stop": [" simple"]}, "stop"),
        ({"messages": [say("")], "tools": OPENAI_TOOLS, "tool_choice": "required"}, "tool_calls"),
    ]:
        assert ask(model="gpt-test", **request).choices[0].finish_reason == reason


def test_openai_structured_output(openai_client: openai.OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS}}
    answer = openai_client.chat.completions.create(model="gpt-test", messages=[say("")], response_format=schema)
    assert json.loads(answer.choices[0].message.content) == CITIES[0]


def test_openai_other_routes(openai_client: openai.OpenAI) -> None:
    assert "gpt-test" in {model.id for model in openai_client.models.list()}
    # What is repeated comes first; more are made than are shown.
    prompt = "one [[sim output=3]]"
    whole = openai_client.completions.create(model="gpt-test", prompt=prompt, n=2, best_of=3, echo=True)
    assert [choice.text for choice in whole.choices] == [f"{prompt}The answer to"] * 2
    assert whole.usage.completion_tokens == 9
    pieces = openai_client.completions.create(model="gpt-test", prompt=[prompt, [1, 2]], echo=True, stream=True)
    texts = ["", ""]
    for piece in pieces:
        texts = [text + choice.text for text, choice in zip(texts, piece.choices, strict=True)]
    assert texts == [f"{prompt}The answer to", "The answer to"]
    answer = openai_client.embeddings.create(model="embedding-test", input=["a", "b [[sim input=70]]"])
    assert len(answer.data) == 2 and answer.data[0].embedding == [0.5, 0.25]
    assert answer.usage.prompt_tokens == 70


def test_openai_errors(openai_client: openai.OpenAI) -> None:
    ask = openai_client.chat.completions.create
    for status, kind in [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)]:
        with pytest.raises(kind, match=SECRET):
            ask(model="gpt-test", messages=[say(f"status={status}")])
    with pytest.raises(openai.APIError, match=SECRET):
        list(ask(model="gpt-test", messages=[say("fault=error at=3")], stream=True))
    for fault in ("disconnect", "malformed"):
        with pytest.raises((openai.APIError, httpx.HTTPError, json.JSONDecodeError)):
            list(ask(model="gpt-test", messages=[say(f"fault={fault} at=3 delay=1")], stream=True))


def test_no_key_is_refused_everywhere(root: str) -> None:
    for path in ("v1", "azure/openai/v1", "anthropic/v1", "google/v1beta", "mistral/v1"):
        refused = httpx.get(f"{root}/{path}/models")
        assert refused.status_code in (401, 403) and refused.json(), path


def test_azure(root: str) -> None:
    client = openai.AzureOpenAI(azure_endpoint=f"{root}/azure", api_key="a-key", api_version="2024-10-21", max_retries=0)
    chunks = list(client.chat.completions.create(model="gpt-test", messages=[say("")], stream=True))
    assert chunks[0].choices == [] and "prompt_filter_results" in chunks[0].model_extra
    assert chunks[1].model == "gpt-test" and chunks[1].choices[0].delta.content == "The"
    whole = client.chat.completions.create(model="gpt-test", messages=[say("input=9")])
    assert whole.usage.prompt_tokens == 9 and whole.model_extra["prompt_filter_results"]
    newer = openai.OpenAI(base_url=f"{root}/azure/openai/v1", api_key="a-key", max_retries=0)
    assert newer.chat.completions.create(model="gpt-test", messages=[say("text=Yes")]).choices[0].message.content == "Yes"
    assert newer.embeddings.create(model="embedding-test", input="a").data
    assert list(newer.models.list())


# OpenAI's Responses


@pytest.mark.parametrize("streamed", [False, True])
def test_responses(openai_client: openai.OpenAI, streamed: bool) -> None:
    tools = [{"type": "function", "name": tool["name"], "parameters": PARAMETERS} for tool in ANTHROPIC_TOOLS]
    request = {
        "model": "gpt-test",
        "input": [say(f"{USAGE} thinking=4 text=Wait tools=2")],
        "tools": tools,
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    if streamed:
        events = list(openai_client.responses.create(stream=True, **request))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == "Wait"
        added = [event.item.type for event in events if event.type == "response.output_item.added"]
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert events[-1].type == "response.completed"
        answer = events[-1].response
        assert [item.type for item in done] == added == [item.type for item in answer.output]
        arguments = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
        assert [json.loads(one) for one in arguments] == CITIES
        with openai_client.responses.stream(**request) as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().output_text == "Wait"
    else:
        answer = openai_client.responses.create(**request)
    kinds = ["reasoning", "message", "function_call", "function_call"]
    assert [item.type for item in answer.output] == kinds and answer.status == "completed"
    assert answer.output[0].summary[0].text == "Let me think about" and answer.output[0].encrypted_content
    assert [json.loads(item.arguments) for item in answer.output[2:]] == CITIES
    usage = answer.usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens) == (1000, 300, 200)
    assert usage.output_tokens_details.reasoning_tokens == 4


def test_responses_that_end_otherwise(openai_client: openai.OpenAI) -> None:
    create = openai_client.responses.create
    short = create(model="gpt-test", input="[[sim output=9]]", max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason, short.output_text) == (
        "incomplete",
        "max_output_tokens",
        "The answer to",
    )
    assert create(model="gpt-test", input="[[sim blocked=1]]").incomplete_details.reason == "content_filter"
    last = list(create(model="gpt-test", input="[[sim output=9]]", max_output_tokens=3, stream=True))[-1]
    assert last.type == "response.incomplete"
    with pytest.raises(openai.RateLimitError, match=SECRET):
        create(model="gpt-test", input="[[sim status=429]]")
    with pytest.raises(openai.BadRequestError):
        create(model="gpt-test", input="Hello", extra_body={"messages": []})
    error = list(create(model="gpt-test", input="[[sim fault=error at=2]]", stream=True))[-1]
    assert error.type == "error" and SECRET in error.message


# Anthropic


@pytest.fixture
def anthropic_client(root: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{root}/anthropic", api_key="a-key", max_retries=0, timeout=30)


def anthropic_ask(client: anthropic.Anthropic, streamed: bool, **request):
    request = {"model": "claude-sonnet-4-5-test", "max_tokens": 2000, **request}
    if not streamed:
        return client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        return stream.get_final_message()


THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic(anthropic_client: anthropic.Anthropic, streamed: bool) -> None:
    directive = f"{USAGE} cache_write=20 cache_write_long=10 reasoning=50"
    plain = anthropic_ask(anthropic_client, streamed, messages=[say(directive)])
    assert plain.content[0].text.startswith("The answer to") and plain.stop_reason == "end_turn"
    usage = plain.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (670, 300, 30)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (200, 50)
    assert usage.cache_creation.ephemeral_1h_input_tokens == 10
    question = say("thinking=5 text=Wait tools=2")
    answer = anthropic_ask(
        anthropic_client, streamed, messages=[question], tools=ANTHROPIC_TOOLS, thinking=THINKING
    )
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].thinking == "Let me think about it" and len(answer.content[0].signature) > 100
    assert [block.input for block in answer.content[2:]] == CITIES
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "[[sim text=Sunny]]"} for block in answer.content[2:]
    ]
    turn = [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {"role": "user", "content": results},
    ]
    for message in turn[0]["content"]:
        message.pop("caller", None)
        message.pop("parsed_output", None)
    rest = {"tools": ANTHROPIC_TOOLS, "thinking": THINKING}
    done = anthropic_ask(anthropic_client, streamed, messages=[question, *turn], **rest)
    assert done.content[0].text == "Sunny"
    forgetful = [question, {"role": "assistant", "content": turn[0]["content"][1:]}, turn[1]]
    with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
        anthropic_ask(anthropic_client, streamed, messages=forgetful, **rest)
    turn[0]["content"][0]["thinking"] += "!"
    with pytest.raises(anthropic.BadRequestError, match="signature"):
        anthropic_ask(anthropic_client, streamed, messages=[question, *turn], **rest)


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic_ends(anthropic_client: anthropic.Anthropic, streamed: bool) -> None:
    for request, reason in [
        ({"messages": [say("output=9")], "max_tokens": 4}, "max_tokens"),
        ({"messages": [say("blocked=1")]}, "refusal"),
        ({"messages": [say("")], "stop_sequences": [" simple"]}, "stop_sequence"),
        ({"messages": [say("")], "tools": ANTHROPIC_TOOLS, "tool_choice": {"type": "any"}}, "tool_use"),
    ]:
        assert anthropic_ask(anthropic_client, streamed, **request).stop_reason == reason
    hidden = anthropic_ask(anthropic_client, streamed, messages=[say("thinking=2 redacted=1")], thinking=THINKING)
    assert [block.type for block in hidden.content] == ["redacted_thinking", "text"]
    output = {"format": {"type": "json_schema", "schema": {**PARAMETERS, "additionalProperties": False}}}
    structured = anthropic_ask(anthropic_client, streamed, messages=[say("")], output_config=output)
    assert json.loads(structured.content[0].text) == CITIES[0]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"messages": [say("", "assistant")]}, "first message"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]}, "tool_use_id"),
        ({"messages": [say("")], "thinking": {"type": "enabled", "budget_tokens": 2000}}, "greater than"),
        ({"messages": [say("")], "thinking": THINKING, "extra_body": {"temperature": 0.5}}, "temperature"),
        ({"messages": [say("")], "extra_body": {"seed": 1}}, "Extra inputs"),
        ({"messages": [say("")], "extra_body": {"max_tokens": None}}, "max_tokens"),
    ],
)
def test_anthropic_refuses(anthropic_client: anthropic.Anthropic, request_, says) -> None:
    with pytest.raises(anthropic.BadRequestError, match=says):
        anthropic_ask(anthropic_client, False, **request_)


def test_anthropic_errors_and_models(anthropic_client: anthropic.Anthropic) -> None:
    for status, kind, name in [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
    ]:
        with pytest.raises(kind, match=SECRET) as caught:
            anthropic_ask(anthropic_client, False, messages=[say(f"status={status}")])
        assert caught.value.body["error"]["type"] == name
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        anthropic_ask(anthropic_client, True, messages=[say("fault=error at=3")])
    assert "claude-sonnet-4-5-test" in {model.id for model in anthropic_client.models.list()}


# Google


@pytest.fixture
def google_client(root: str) -> genai.Client:
    return genai.Client(api_key="a-key", http_options=types.HttpOptions(base_url=f"{root}/google", api_version="v1beta"))


def google_ask(client: genai.Client, streamed: bool, contents, model: str = "gemini-3-test", **config):
    """All parts, the last finish reason and the last usage."""
    request = {"model": model, "contents": contents, "config": types.GenerateContentConfig(**config)}
    models = client.models
    answers = list(models.generate_content_stream(**request)) if streamed else [models.generate_content(**request)]
    parts = [part for answer in answers for one in answer.candidates or [] for part in one.content.parts or []]
    return parts, answers[-1]


@pytest.mark.parametrize("streamed", [False, True])
def test_google(google_client: genai.Client, streamed: bool) -> None:
    show = types.ThinkingConfig(include_thoughts=True)
    directive = f"[[sim {USAGE} audio=40 thinking=5 reasoning=50]]"
    parts, last = google_ask(google_client, streamed, directive, thinking_config=show)
    thoughts = "".join(part.text for part in parts if part.thought)
    text = "".join(part.text for part in parts if not part.thought)
    assert thoughts == "Let me think about it" and text.startswith("The answer to")
    assert any(part.thought_signature for part in parts)
    usage = last.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (1000, 300)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (150, 50, 1200)
    audio = {one.modality.value: one.token_count for one in usage.prompt_tokens_details}
    assert audio == {"TEXT": 960, "AUDIO": 40}
    hidden, _ = google_ask(google_client, streamed, "[[sim thinking=5]]")
    assert not any(part.thought for part in hidden)


@pytest.mark.parametrize("streamed", [False, True])
def test_google_tools(google_client: genai.Client, streamed: bool) -> None:
    question = types.Content(role="user", parts=[types.Part(text="[[sim tools=2 thinking=3]]")])
    rest = {"tools": GOOGLE_TOOLS, "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True)}
    parts, last = google_ask(google_client, streamed, [question], **rest)
    calls = [part for part in parts if part.function_call]
    assert [call.function_call.args for call in calls] == CITIES
    assert [bool(call.thought_signature) for call in calls] == [True, False]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    results = [
        types.Part.from_function_response(name=call.function_call.name, response={"output": "[[sim text=Sunny]]"})
        for call in calls
    ]
    said = types.Content(role="model", parts=calls)
    done, _ = google_ask(google_client, streamed, [question, said, types.Content(role="user", parts=results)], **rest)
    assert done[0].text == "Sunny"
    with pytest.raises(genai.errors.ClientError, match="number of function response"):
        google_ask(google_client, streamed, [question, said, types.Content(role="user", parts=results[:1])], **rest)
    calls[0].thought_signature = None
    forgetful = [question, types.Content(role="model", parts=calls), types.Content(role="user", parts=results)]
    with pytest.raises(genai.errors.ClientError, match="thought_signature"):
        google_ask(google_client, streamed, forgetful, **rest)
    assert google_ask(google_client, streamed, forgetful, model="gemini-2.5-test", **rest)[0][0].text == "Sunny"


@pytest.mark.parametrize("streamed", [False, True])
def test_google_ends(google_client: genai.Client, streamed: bool) -> None:
    _, blocked = google_ask(google_client, streamed, "[[sim blocked=1 input=7]]")
    assert blocked.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT and not blocked.candidates
    assert blocked.usage_metadata.prompt_token_count == 7
    _, filtered = google_ask(google_client, streamed, "[[sim blocked=1 output=3]]")
    assert filtered.candidates[0].finish_reason == types.FinishReason.SAFETY
    _, short = google_ask(google_client, streamed, "[[sim output=9]]", max_output_tokens=3)
    assert short.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    structured, _ = google_ask(
        google_client, streamed, "Hello", response_mime_type="application/json", response_json_schema=PARAMETERS
    )
    assert json.loads(structured[0].text) == CITIES[0]
    _, two = google_ask(google_client, streamed, "Hello", candidate_count=2)
    assert len(two.candidates) == 2


def test_google_errors_and_other_routes(google_client: genai.Client, root: str) -> None:
    for status, kind in [(400, genai.errors.ClientError), (429, genai.errors.ClientError), (503, genai.errors.ServerError)]:
        with pytest.raises(kind, match=SECRET) as caught:
            google_ask(google_client, False, f"[[sim status={status}]]")
        assert caught.value.code == status
    with pytest.raises(genai.errors.APIError, match=SECRET):
        google_ask(google_client, True, "[[sim fault=error at=3]]")
    one = google_client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert [vector.values for vector in one.embeddings] == [[0.5, 0.25], [0.5, 0.25]]
    assert "models/gemini-3-test" in {model.name for model in google_client.models.list()}
    url = f"{root}/google/v1beta/models/gemini-3-test"
    headers = {"x-goog-api-key": "a-key"}
    content = {"parts": [{"text": "a"}]}
    for path, body, says in [
        (":generateContent", {"contents": [content], "seed": 1}, "Unknown name \"seed\""),
        (":generateContent", {"contents": []}, "contents is not specified"),
        (":embedContent", {"content": content, "encodingFormat": "float"}, "Unknown name"),
    ]:
        refused = httpx.post(f"{url}{path}", json=body, headers=headers)
        assert refused.status_code == 400 and says in refused.json()["error"]["message"]
    single = httpx.post(f"{url}:embedContent", json={"content": content}, headers=headers)
    assert single.json()["embedding"]["values"] == [0.5, 0.25]


# Mistral


@pytest.fixture
def mistral_client(root: str) -> mistralai.client.Mistral:
    return mistralai.client.Mistral(api_key="a-key", server_url=f"{root}/mistral", timeout_ms=30000)


def mistral_ask(client: mistralai.client.Mistral, streamed: bool, **request):
    """Texts, thinking, calls, finish reason, usage."""
    request = {"model": "mistral-medium-3-5-test", **request}
    if streamed:
        chunks = [event.data for event in client.chat.stream(**request)]
        pieces = [chunk.choices[0].delta for chunk in chunks]
        last = chunks[-1]
    else:
        last = client.chat.complete(**request)
        pieces = [last.choices[0].message]
    text, thinking, calls = "", "", []
    for piece in pieces:
        parts = piece.content or []
        for part in [parts] if isinstance(parts, str) else parts:
            if isinstance(part, str):
                text += part
            elif part.type == "thinking":
                thinking += "".join(one.text for one in part.thinking)
            else:
                text += part.text
        calls += piece.tool_calls or []
    return text, thinking, calls, last.choices[0].finish_reason, last.usage


@pytest.mark.parametrize("streamed", [False, True])
def test_mistral(mistral_client: mistralai.client.Mistral, streamed: bool) -> None:
    text, thinking, _, reason, usage = mistral_ask(mistral_client, streamed, messages=[say(f"{USAGE} thinking=5")])
    assert text.startswith("The answer to") and thinking == "Let me think about it" and reason == "stop"
    assert (usage.prompt_tokens, usage.completion_tokens) == (1000, 200)
    assert usage.model_extra["prompt_tokens_details"]["cached_tokens"] == 300
    question = say("tools=2")
    _, _, calls, reason, _ = mistral_ask(mistral_client, streamed, messages=[question], tools=OPENAI_TOOLS)
    assert reason == "tool_calls" and all(re.fullmatch("[a-zA-Z0-9]{9}", call.id) for call in calls)
    assert [json.loads(call.function.arguments) for call in calls] == CITIES
    said = {"role": "assistant", "tool_calls": [call.model_dump() for call in calls]}
    results = [{"role": "tool", "tool_call_id": call.id, "content": "[[sim text=Sunny]]"} for call in calls]
    done = mistral_ask(mistral_client, streamed, messages=[question, said, *results], tools=OPENAI_TOOLS)
    assert done[0] == "Sunny"
    with pytest.raises(mistralai.client.errors.SDKError, match="same number"):
        mistral_ask(mistral_client, streamed, messages=[question, said, results[0]], tools=OPENAI_TOOLS)
    said["tool_calls"][0]["id"] = "call_0123456789"
    with pytest.raises(mistralai.client.errors.SDKError, match="length of 9"):
        mistral_ask(mistral_client, streamed, messages=[question, said, *results], tools=OPENAI_TOOLS)


def test_mistral_errors_and_other_routes(mistral_client: mistralai.client.Mistral, root: str) -> None:
    for status in (400, 429):
        with pytest.raises(mistralai.client.errors.SDKError, match=SECRET) as caught:
            mistral_ask(mistral_client, False, messages=[say(f"status={status}")])
        assert caught.value.status_code == status
    body = {"model": "mistral-medium-3-5-test", "messages": [say("")], "seed": 1}
    refused = httpx.post(f"{root}/mistral/v1/chat/completions", json=body, headers={"authorization": "Bearer k"})
    assert refused.status_code == 422
    assert refused.json()["message"]["detail"][0]["loc"] == ["body", "seed"]
    assert mistral_ask(mistral_client, True, messages=[say("output=9")], max_tokens=3)[3] == "length"
    one = mistral_client.embeddings.create(model="mistral-embed-test", inputs=["a", "b [[sim input=70]]"])
    assert [data.embedding for data in one.data] == [[0.5, 0.25]] * 2 and one.usage.prompt_tokens == 70
    assert "mistral-medium-3-5-test" in {model.id for model in mistral_client.models.list().data}


# Ollama


@pytest.fixture
def ollama_client(root: str) -> ollama.Client:
    return ollama.Client(host=f"{root}/ollama", timeout=30)


def ollama_ask(client: ollama.Client, streamed: bool, **request):
    """Text, thinking, calls, the last line."""
    request = {"model": "llama-test", **request}
    lines = list(client.chat(stream=True, **request)) if streamed else [client.chat(**request)]
    text = "".join(line.message.content or "" for line in lines)
    thinking = "".join(line.message.thinking or "" for line in lines)
    return text, thinking, [call for line in lines for call in line.message.tool_calls or []], lines[-1]


@pytest.mark.parametrize("streamed", [False, True])
def test_ollama(ollama_client: ollama.Client, streamed: bool) -> None:
    text, thinking, _, last = ollama_ask(ollama_client, streamed, messages=[say(f"{USAGE} thinking=5")], think=True)
    assert text.startswith("The answer to") and thinking == "Let me think about it"
    assert (last.done, last.done_reason, last.prompt_eval_count, last.eval_count) == (True, "stop", 1000, 200)
    assert ollama_ask(ollama_client, streamed, messages=[say("thinking=5")])[1] == ""
    question = say("tools=2")
    _, _, calls, _ = ollama_ask(ollama_client, streamed, messages=[question], tools=OPENAI_TOOLS)
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("get_weather", CITIES[0]),
        ("get_time", CITIES[1]),
    ]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    results = [{"role": "tool", "tool_name": call.function.name, "content": "[[sim text=Sunny]]"} for call in calls]
    assert ollama_ask(ollama_client, streamed, messages=[question, said, *results])[0] == "Sunny"
    short = ollama_ask(ollama_client, streamed, messages=[say("output=9")], options={"num_predict": 3})
    assert (short[0], short[3].done_reason) == ("The answer to", "length")
    assert json.loads(ollama_ask(ollama_client, streamed, messages=[say("")], format=PARAMETERS)[0]) == CITIES[0]


def test_ollama_errors_and_other_routes(ollama_client: ollama.Client, root: str) -> None:
    with pytest.raises(ollama.ResponseError, match=SECRET) as caught:
        ollama_ask(ollama_client, False, messages=[say("status=503")])
    assert caught.value.status_code == 503
    with pytest.raises(ollama.ResponseError, match=SECRET):
        ollama_ask(ollama_client, True, messages=[say("fault=error at=3")])
    call = {"function": {"name": "get_weather", "arguments": "{}"}}
    body = {"model": "llama-test", "messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
    refused = httpx.post(f"{root}/ollama/api/chat", json=body)
    assert refused.status_code == 400 and "arguments" in refused.json()["error"]
    assert ollama_client.embed(model="embed-test", input=["a", "b"]).embeddings == [[0.5, 0.25]] * 2
    assert "llama-test:latest" in {model.model for model in ollama_client.list().models}


# Faults, for each format as it goes over the wire

STREAMS = {
    "v1/chat/completions": {"model": "m", "stream": True, "stream_options": {"include_usage": True}},
    "v1/responses": {"model": "m", "stream": True},
    "azure/openai/v1/chat/completions": {"model": "m", "stream": True, "stream_options": {"include_usage": True}},
    "anthropic/v1/messages": {"model": "m", "stream": True, "max_tokens": 99},
    "google/v1beta/models/m:streamGenerateContent?alt=sse": {},
    "mistral/v1/chat/completions": {"model": "m", "stream": True},
    "ollama/api/chat": {"model": "m", "stream": True},
}
ENDS = {
    "v1/chat/completions": "data: [DONE]\n\n",
    "v1/responses": "response.completed",
    "azure/openai/v1/chat/completions": "data: [DONE]\n\n",
    "anthropic/v1/messages": "message_stop",
    "google/v1beta/models/m:streamGenerateContent?alt=sse": "finishReason",
    "mistral/v1/chat/completions": "data: [DONE]\n\n",
    "ollama/api/chat": '"done":true',
}


def raw(root: str, path: str, directive: str) -> tuple[httpx.Response, str]:
    headers = {
        "authorization": "Bearer k",
        "x-api-key": "k",
        "x-goog-api-key": "k",
        "anthropic-version": "2023-06-01",
    }
    text = f"[[sim {directive}]]"
    if "google" in path:
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    elif "responses" in path:
        body = {"input": text}
    else:
        body = {"messages": [{"role": "user", "content": text}]}
    received = b""
    with httpx.stream("POST", f"{root}/{path}", json={**STREAMS[path], **body}, headers=headers) as response:
        try:
            for piece in response.iter_raw():
                received += piece
        except httpx.HTTPError:
            received += b"BROKEN"
    return response, received.decode()


@pytest.mark.parametrize("path", STREAMS)
def test_faults(root: str, path: str) -> None:
    response, right = raw(root, path, "input=777 output=4")
    framing = "application/x-ndjson" if "ollama" in path else "text/event-stream"
    assert response.headers["content-type"] == framing and ENDS[path] in right and "777" in right
    for fault in ("disconnect", "half", "error", "end"):
        _, text = raw(root, path, f"output=4 fault={fault} at=2 delay=1")
        assert "answer" in text and ENDS[path] not in text, fault
        assert text.endswith("BROKEN") == (fault == "disconnect"), fault
        assert (SECRET in text) == (fault == "error"), fault
    assert "{oops" in raw(root, path, "fault=malformed at=2")[1]
    assert "777" not in raw(root, path, "input=777 fault=nousage")[1]
    assert ":-5" in raw(root, path, "input=777 fault=badusage")[1]
    assert raw(root, path, "fault=html")[0].headers["content-type"] == "text/html"
    wrong, text = raw(root, path, "input=777 output=4 fault=wrongtype")
    assert (wrong.headers["content-type"], text) == ("text/plain", right)
    assert raw(root, path, "input=777 output=4 split=1")[1] == right
    refused, text = raw(root, path, "status=429 retry_after=7")
    assert refused.status_code == 429 and refused.headers["retry-after"] == "7" and SECRET in text
