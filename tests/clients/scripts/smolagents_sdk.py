"""smolagents."""

from cells import MODELS, OPENAI, Task, joined, run
from smolagents import ChatMessage, OpenAIServerModel, ToolCallingAgent, tool


def model(task: Task) -> OpenAIServerModel:
    return OpenAIServerModel(model_id=MODELS["chat"], api_base=OPENAI, api_key=task.key)


def asked(task: Task) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=[{"type": "text", "text": task.ask}])]


def plain(task: Task) -> str:
    return model(task).generate(asked(task)).content


def stream(task: Task) -> str:
    return joined([piece.content or "" for piece in model(task).generate_stream(asked(task))])


def tools(task: Task) -> str:
    @tool
    def weather(city: str) -> str:
        """Tells how the weather is in a city.

        Args:
            city: Its name.
        """
        return task.weather(city)

    return str(ToolCallingAgent(tools=[weather], model=model(task), max_steps=3).run(task.ask))


run(plain=plain, stream=stream, tools=tools)
