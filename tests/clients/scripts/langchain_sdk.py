"""LangChain in Python, with its packages for OpenAI and Anthropic."""

from cells import ANTHROPIC, EMBEDDING, MODEL, OPENAI, ROUTE, Task, joined, numbers, run
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Place(BaseModel):
    """Where it is."""

    city: str


def model(task: Task):
    if ROUTE == "messages":
        return ChatAnthropic(model=MODEL, base_url=ANTHROPIC, api_key=task.key)
    if ROUTE == "responses":
        return ChatOpenAI(model=MODEL, base_url=OPENAI, api_key=task.key, use_responses_api=True)
    return ChatOpenAI(model=MODEL, base_url=OPENAI, api_key=task.key)


def plain(task: Task) -> str:
    return model(task).invoke(task.ask).text


def stream(task: Task) -> str:
    return joined([chunk.text for chunk in model(task).stream(task.ask)])


def tools(task: Task) -> str:
    @tool
    def weather(city: str) -> str:
        """Tells how the weather is in a city."""
        return task.weather(city)

    bound, messages = model(task).bind_tools([weather]), [HumanMessage(task.ask)]
    answer = bound.invoke(messages)
    messages.append(answer)
    for call in answer.tool_calls:
        messages.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))
    return bound.invoke(messages).text


def structured(task: Task) -> str:
    return model(task).with_structured_output(Place).invoke(task.ask).city


def embeddings(task: Task) -> str:
    # Otherwise it fetches a tokenizer from the internet.
    made = OpenAIEmbeddings(model=EMBEDDING, base_url=OPENAI, api_key=task.key, check_embedding_ctx_length=False)
    return numbers(made.embed_query(task.ask))


run(plain=plain, stream=stream, tools=tools, structured=structured, embeddings=embeddings)
