"""The official OpenAI client, unmodified, against the gateway: what it gets, and what it is charged."""

import base64
import json
import struct
from decimal import Decimal

import openai
import pytest

from programs import KEY, Gateway

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def client(gateway: Gateway, user: str, key: str = KEY) -> openai.OpenAI:
    headers = {"X-OpenWebUI-User-Id": user, "X-OpenWebUI-User-Name": "Test", "X-OpenWebUI-User-Email": f"{user}@example.com"}
    return openai.OpenAI(base_url=gateway.url, api_key=key, default_headers=headers, max_retries=2, timeout=30)


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def spent(gateway: Gateway, user: str) -> Decimal:
    rows = json.loads(gateway.run("usage", "--by", "user", "--format", "json"), parse_float=Decimal)
    return sum((Decimal(row["credits"]) for row in rows if row["user_id"] == user), Decimal(0))


def test_a_whole_answer_is_charged_exactly(gateway: Gateway) -> None:
    user = gateway.new_user()
    answer = client(gateway, user).chat.completions.create(
        model="gpt-test", messages=ask("[[sim input=1000 output=200 cached=100]]")
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1000, 200)
    # 1000 × 0.003 + 200 × 0.015
    assert answer.usage.model_extra == {"credits": 6, "credits_remaining": 994}
    assert spent(gateway, user) == 6


def test_a_stream_with_usage_asked_for(gateway: Gateway) -> None:
    user = gateway.new_user()
    stream = client(gateway, user).chat.completions.create(
        model="gpt-test",
        messages=ask("[[sim input=10 output=20]]"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    last = chunks[-1]
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == 20
    assert last.usage.model_extra["credits"] == 0.33
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert spent(gateway, user) == Decimal("0.33")


def test_a_stream_without_usage_asked_for_has_no_empty_chunk(gateway: Gateway) -> None:
    user = gateway.new_user()
    stream = client(gateway, user).chat.completions.create(
        model="gpt-test", messages=ask("[[sim input=10 output=20]]"), stream=True
    )
    chunks = list(stream)
    assert all(chunk.choices for chunk in chunks)
    finish = [chunk for chunk in chunks if chunk.choices[0].finish_reason]
    assert [chunk.usage.completion_tokens for chunk in finish if chunk.usage] == [20]
    assert chunks[-1] is finish[-1]
    assert spent(gateway, user) == Decimal("0.33")


def test_a_tool_call_in_pieces(gateway: Gateway) -> None:
    user = gateway.new_user()
    stream = client(gateway, user).chat.completions.create(
        model="gpt-test", messages=ask("[[sim tool=1 input=50 output=10]]"), tools=[TOOL], stream=True
    )
    name, arguments, reason = "", "", None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    assert (name, reason) == ("get_weather", "tool_calls")
    json.loads(arguments)
    assert spent(gateway, user) == Decimal("0.3")


def test_a_tool_call_in_one_piece(gateway: Gateway) -> None:
    answer = client(gateway, gateway.new_user()).chat.completions.create(
        model="gpt-test", messages=ask("[[sim tool=1]]"), tools=[TOOL]
    )
    calls = answer.choices[0].message.tool_calls
    assert calls and calls[0].function.name == "get_weather"


@pytest.mark.parametrize("streamed", [False, True])
def test_prompts_are_gone_on_with(gateway: Gateway, streamed: bool) -> None:
    user = gateway.new_user()
    prompts = ["first", "[[sim input=1000 output=10]]"]
    create = client(gateway, user).completions.create
    if streamed:
        chunks = list(create(model="gpt-test", prompt=prompts, n=2, stream=True))
        texts = ["".join(chunk.choices[index].text for chunk in chunks) for index in range(4)]
        usage = next(chunk.usage for chunk in chunks if chunk.usage)
    else:
        answer = create(model="gpt-test", prompt=prompts, n=2)
        texts, usage = [choice.text for choice in answer.choices], answer.usage
    assert len(texts) == 4 and all(text.startswith("The answer") for text in texts)
    # 1000 × 0.003 + 4 × 10 × 0.015
    assert usage is not None and usage.completion_tokens == 40
    assert usage.model_extra is not None and usage.model_extra["credits"] == 3.6
    assert spent(gateway, user) == Decimal("3.6")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(gateway: Gateway, encoding) -> None:
    user = gateway.new_user()
    answer = client(gateway, user).embeddings.create(
        model="embedding-test", input=["one", "[[sim input=5000]]"], encoding_format=encoding
    )
    assert len(answer.data) == 2
    vector = answer.data[0].embedding
    if isinstance(vector, str):
        raw = base64.b64decode(vector)
        vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    assert len(vector) > 0
    assert spent(gateway, user) == Decimal("0.5")


def test_the_limit_is_a_quota_error_that_is_not_retried(gateway: Gateway) -> None:
    user = gateway.new_user()
    one = client(gateway, user)
    one.chat.completions.create(model="gpt-test", messages=ask("[[sim input=0 output=66667]]"))
    with pytest.raises(openai.APIStatusError) as caught:
        one.chat.completions.create(model="gpt-test", messages=ask("more"))
    error = caught.value
    assert (error.status_code, error.code) == (402, "insufficient_quota")
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers
    assert 0 < error.body["resets_in"] <= 25 * 3600
    assert "free-test" in str(error)
    assert client(gateway, user).chat.completions.create(model="free-test", messages=ask("hi")).choices


def test_errors_are_the_clients_own_types(gateway: Gateway) -> None:
    user = gateway.new_user()
    one = client(gateway, user)
    with pytest.raises(openai.NotFoundError) as unknown:
        one.chat.completions.create(model="no-such-model", messages=ask("hi"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client(gateway, user, key="wrong").chat.completions.create(model="gpt-test", messages=ask("hi"))
    with pytest.raises(openai.BadRequestError) as hosted:
        one.chat.completions.create(model="gpt-test", messages=ask("hi"), extra_body={"service_tier": "priority"})
    assert hosted.value.param == "service_tier"
    with pytest.raises(openai.BadRequestError):
        one.chat.completions.create(model="gpt-test", messages=ask("[[sim status=400]]"))
    assert spent(gateway, user) == 0


def test_a_provider_that_breaks_off_is_an_error_and_is_charged(gateway: Gateway) -> None:
    user = gateway.new_user()
    stream = client(gateway, user).chat.completions.create(
        model="gpt-test", messages=ask("[[sim output=50 chunk=1 delay=3 fault=disconnect at=10]]"), stream=True
    )
    text = ""
    with pytest.raises(openai.APIError):
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text
    assert spent(gateway, user) > 0


def test_models_need_a_key_but_no_user(gateway: Gateway) -> None:
    anonymous = openai.OpenAI(base_url=gateway.url, api_key=KEY, max_retries=0)
    assert {model.id for model in anonymous.models.list()} == {"gpt-test", "embedding-test", "free-test"}
    with pytest.raises(openai.AuthenticationError):
        anonymous.chat.completions.create(model="gpt-test", messages=ask("hi"))


def test_a_bound_key_is_one_user(gateway: Gateway) -> None:
    user = gateway.new_user()
    client(gateway, user).chat.completions.create(model="free-test", messages=ask("so that the user is known"))
    created = gateway.json("key", "create", "laptop", "--user", user)
    bound = openai.OpenAI(base_url=gateway.url, api_key=created["key"], max_retries=0)
    bound.chat.completions.create(model="gpt-test", messages=ask("[[sim input=1000 output=0]]"))
    assert spent(gateway, user) == 3
    with pytest.raises(openai.AuthenticationError):
        client(gateway, "somebody-else", key=created["key"]).chat.completions.create(model="gpt-test", messages=ask("hi"))
