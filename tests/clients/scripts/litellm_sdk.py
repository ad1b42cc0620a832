"""LiteLLM as a client: of OpenAI's Chat Completions, or of Anthropic's messages."""

import json

import litellm
from cells import ANTHROPIC, EMBEDDING, MODEL, OPENAI, ROUTE, SCHEMA, TELLS, Task, joined, numbers, run

litellm.suppress_debug_info = True


def place(task: Task) -> dict:
    if ROUTE == "chat":
        return {"model": f"openai/{MODEL}", "api_base": OPENAI, "api_key": task.key}
    return {"model": f"anthropic/{MODEL}", "api_base": ANTHROPIC, "api_key": task.key}


def asked(task: Task) -> list:
    return [{"role": "user", "content": task.ask}]


def plain(task: Task) -> str:
    return litellm.completion(messages=asked(task), **place(task)).choices[0].message.content


def stream(task: Task) -> str:
    chunks = litellm.completion(messages=asked(task), stream=True, **place(task))
    return joined([chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices])


def tools(task: Task) -> str:
    offered = [{"type": "function", "function": {"name": "weather", "description": TELLS, "parameters": SCHEMA}}]
    messages = asked(task)
    message = litellm.completion(messages=messages, tools=offered, **place(task)).choices[0].message
    messages.append(message)
    for call in message.tool_calls:
        result = task.weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return litellm.completion(messages=messages, tools=offered, **place(task)).choices[0].message.content


def structured(task: Task) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    answer = litellm.completion(messages=asked(task), response_format=wanted, **place(task))
    return json.loads(answer.choices[0].message.content)["city"]


def embeddings(task: Task) -> str:
    model = f"openai/{EMBEDDING}"
    answer = litellm.embedding(model=model, input=[task.ask], api_base=OPENAI, api_key=task.key)
    return numbers(answer.data[0]["embedding"])


run(plain=plain, stream=stream, tools=tools, structured=structured, embeddings=embeddings)
