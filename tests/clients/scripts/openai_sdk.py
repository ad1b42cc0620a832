"""OpenAI's client in Python: Chat Completions, or Responses."""

import json

import openai
from cells import EMBEDDING, MODEL, OPENAI, ROUTE, SCHEMA, TELLS, Task, joined, numbers, run
from pydantic import BaseModel


class Place(BaseModel):
    city: str


def client(task: Task) -> openai.OpenAI:
    return openai.OpenAI(base_url=OPENAI, api_key=task.key)


def asked(task: Task) -> list:
    return [{"role": "user", "content": task.ask}]


def chat(task: Task) -> str:
    answer = client(task).chat.completions.create(model=MODEL, messages=asked(task))
    return answer.choices[0].message.content or ""


def chat_stream(task: Task) -> str:
    stream = client(task).chat.completions.create(model=MODEL, messages=asked(task), stream=True)
    return joined([chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices])


def chat_tools(task: Task) -> str:
    function = {"name": "weather", "description": TELLS, "parameters": SCHEMA}
    tools, messages = [{"type": "function", "function": function}], asked(task)
    create = client(task).chat.completions.create
    message = create(model=MODEL, messages=messages, tools=tools).choices[0].message
    messages.append(message)
    for call in message.tool_calls or []:
        result = task.weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return create(model=MODEL, messages=messages, tools=tools).choices[0].message.content or ""


def chat_structured(task: Task) -> str:
    parse = client(task).chat.completions.parse
    answer = parse(model=MODEL, messages=asked(task), response_format=Place)
    return answer.choices[0].message.parsed.city


def responses(task: Task) -> str:
    return client(task).responses.create(model=MODEL, input=task.ask).output_text


def responses_stream(task: Task) -> str:
    stream = client(task).responses.create(model=MODEL, input=task.ask, stream=True)
    return joined([event.delta for event in stream if event.type == "response.output_text.delta"])


def responses_tools(task: Task) -> str:
    tools = [{"type": "function", "name": "weather", "description": TELLS, "parameters": SCHEMA, "strict": True}]
    inputs, create = asked(task), client(task).responses.create
    first = create(model=MODEL, input=inputs, tools=tools)
    inputs += first.output
    for item in first.output:
        if item.type == "function_call":
            result = task.weather(**json.loads(item.arguments))
            inputs.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
    return create(model=MODEL, input=inputs, tools=tools).output_text


def responses_structured(task: Task) -> str:
    return client(task).responses.parse(model=MODEL, input=task.ask, text_format=Place).output_parsed.city


def embeddings(task: Task) -> str:
    return numbers(client(task).embeddings.create(model=EMBEDDING, input=task.ask).data[0].embedding)


if ROUTE == "chat":
    run(plain=chat, stream=chat_stream, tools=chat_tools, structured=chat_structured, embeddings=embeddings)
else:
    run(plain=responses, stream=responses_stream, tools=responses_tools, structured=responses_structured)
