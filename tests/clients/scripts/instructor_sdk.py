"""Instructor, which makes models of answers, over OpenAI's and Anthropic's clients."""

import anthropic
import instructor
import openai
from cells import ANTHROPIC, MODELS, OPENAI, ROUTE, Task, run
from pydantic import BaseModel


class Place(BaseModel):
    """Where it is."""

    city: str


def client(task: Task):
    if ROUTE == "messages":
        return instructor.from_anthropic(anthropic.Anthropic(base_url=ANTHROPIC, api_key=task.key))
    return instructor.from_openai(openai.OpenAI(base_url=OPENAI, api_key=task.key))


def asked(task: Task) -> dict:
    messages = [{"role": "user", "content": task.ask}]
    if ROUTE == "messages":
        return {"model": MODELS["claude"], "messages": messages, "max_tokens": 1000}
    return {"model": MODELS["chat"], "messages": messages}


def structured(task: Task) -> str:
    return client(task).create(response_model=Place, **asked(task)).city


def stream(task: Task) -> str:
    """Parts of the model, as they come."""
    return [part.city for part in client(task).create_partial(response_model=Place, **asked(task))][-1]


run(plain=structured, stream=stream, structured=structured)
