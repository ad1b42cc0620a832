"""Pydantic AI, over each of its three interfaces."""

import asyncio

from cells import ANTHROPIC, EMBEDDING, MODEL, OPENAI, ROUTE, Task, joined, numbers, run
from pydantic import BaseModel
from pydantic_ai import Agent


class Place(BaseModel):
    """Where it is."""

    city: str


def model(task: Task):
    if ROUTE == "messages":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(MODEL, provider=AnthropicProvider(base_url=ANTHROPIC, api_key=task.key))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=OPENAI, api_key=task.key)
    if ROUTE == "responses":
        return OpenAIResponsesModel(MODEL, provider=provider)
    return OpenAIChatModel(MODEL, provider=provider)


def plain(task: Task) -> str:
    return Agent(model(task)).run_sync(task.ask).output


def stream(task: Task) -> str:
    async def read() -> list[str]:
        async with Agent(model(task)).run_stream(task.ask) as answer:
            return [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]

    return joined(asyncio.run(read()))


def tools(task: Task) -> str:
    agent = Agent(model(task))

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tells how the weather is in a city."""
        return task.weather(city)

    return agent.run_sync(task.ask).output


def structured(task: Task) -> str:
    return Agent(model(task), output_type=Place).run_sync(task.ask).output.city


def embeddings(task: Task) -> str:
    from pydantic_ai import Embedder
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=OPENAI, api_key=task.key)
    embedder = Embedder(OpenAIEmbeddingModel(EMBEDDING, provider=provider))
    return numbers(embedder.embed_query_sync(task.ask).embeddings[0])


run(plain=plain, stream=stream, tools=tools, structured=structured, embeddings=embeddings)
