"""LlamaIndex, with its packages for compatible servers and for Anthropic."""

from cells import ANTHROPIC, EMBEDDING, MODEL, OPENAI, ROUTE, TELLS, Task, joined, numbers, run
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Place(BaseModel):
    """Where it is."""

    city: str


def model(task: Task):
    if ROUTE == "messages":
        return Anthropic(model=MODEL, base_url=ANTHROPIC, api_key=task.key)
    return OpenAILike(
        model=MODEL, api_base=OPENAI, api_key=task.key, is_chat_model=True, is_function_calling_model=True
    )


def plain(task: Task) -> str:
    return model(task).complete(task.ask).text


def stream(task: Task) -> str:
    return joined([chunk.delta or "" for chunk in model(task).stream_complete(task.ask)])


def tools(task: Task) -> str:
    weather = FunctionTool.from_defaults(fn=task.weather, name="weather", description=TELLS)
    return agent(task, weather)


def agent(task: Task, tool: FunctionTool) -> str:
    import asyncio

    from llama_index.core.agent.workflow import FunctionAgent

    async def ask() -> str:
        return str(await FunctionAgent(tools=[tool], llm=model(task)).run(task.ask))

    return asyncio.run(ask())


def structured(task: Task) -> str:
    return model(task).as_structured_llm(Place).complete(task.ask).raw.city


def embeddings(task: Task) -> str:
    made = OpenAILikeEmbedding(model_name=EMBEDDING, api_base=OPENAI, api_key=task.key)
    return numbers(made.get_text_embedding(task.ask))


run(plain=plain, stream=stream, tools=tools, structured=structured, embeddings=embeddings)
