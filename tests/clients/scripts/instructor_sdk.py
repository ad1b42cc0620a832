"""Instructor, which makes models of answers, over OpenAI's and Anthropic's clients."""

import anthropic
import instructor
import openai
from cells import ANTHROPIC, MODEL, OPENAI, ROUTE, Task, run
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
        return {"model": MODEL, "messages": messages, "max_tokens": 1000}
    return {"model": MODEL, "messages": messages}


def structured(task: Task) -> str:
    """The model, whole; and the same in parts, as they come."""
    whole = client(task).create(response_model=Place, **asked(task)).city
    parts = [part.city for part in client(task).create_partial(response_model=Place, **asked(task))]
    return whole if parts[-1] == whole else f"{whole}, and in parts {parts}"


run(plain=structured, structured=structured)
