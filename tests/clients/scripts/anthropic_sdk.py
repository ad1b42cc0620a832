"""Anthropic's client in Python, with its own loop of tools."""

import anthropic
from anthropic import beta_tool
from cells import ANTHROPIC, MODEL, Task, joined, run
from pydantic import BaseModel


class Place(BaseModel):
    city: str


def request(task: Task) -> dict:
    return {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": task.ask}]}


def client(task: Task) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=ANTHROPIC, api_key=task.key)


def text(message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def plain(task: Task) -> str:
    return text(client(task).messages.create(**request(task)))


def stream(task: Task) -> str:
    with client(task).messages.stream(**request(task)) as pieces:
        return joined(list(pieces.text_stream))


def tools(task: Task) -> str:
    @beta_tool
    def weather(city: str) -> str:
        """Tells how the weather is in a city.

        Args:
            city: Its name.
        """
        return task.weather(city)

    return text(client(task).beta.messages.tool_runner(**request(task), tools=[weather]).until_done())


def structured(task: Task) -> str:
    return client(task).messages.parse(**request(task), output_format=Place).parsed_output.city


run(plain=plain, stream=stream, tools=tools, structured=structured)
