"""OpenAI's Agents SDK, over Responses or Chat Completions."""

import asyncio

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from cells import MODEL, OPENAI, ROUTE, Task, joined, run
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)


class Place(BaseModel):
    city: str


def agent(task: Task, **more) -> Agent:
    client = AsyncOpenAI(base_url=OPENAI, api_key=task.key)
    if ROUTE == "responses":
        return Agent(name="agent", model=OpenAIResponsesModel(MODEL, client), **more)
    return Agent(name="agent", model=OpenAIChatCompletionsModel(MODEL, client), **more)


def ask(task: Task, **more):
    return asyncio.run(Runner.run(agent(task, **more), task.ask)).final_output


def plain(task: Task) -> str:
    return ask(task)


def stream(task: Task) -> str:
    async def read() -> list[str]:
        events = Runner.run_streamed(agent(task), task.ask).stream_events()
        raw = [event.data async for event in events if event.type == "raw_response_event"]
        return [event.delta for event in raw if event.type == "response.output_text.delta"]

    return joined(asyncio.run(read()))


def tools(task: Task) -> str:
    @function_tool
    def weather(city: str) -> str:
        """Tells how the weather is in a city."""
        return task.weather(city)

    return ask(task, tools=[weather])


def structured(task: Task) -> str:
    return ask(task, output_type=Place).city


run(plain=plain, stream=stream, tools=tools, structured=structured)
