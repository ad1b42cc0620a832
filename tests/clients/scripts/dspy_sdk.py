"""DSPy."""

import dspy
from cells import EMBEDDING, MODEL, OPENAI, Task, numbers, run


def model(task: Task) -> dspy.LM:
    return dspy.LM(f"openai/{MODEL}", api_base=OPENAI, api_key=task.key, cache=False)


def plain(task: Task) -> str:
    return model(task)(task.ask)[0]


def structured(task: Task) -> str:
    with dspy.context(lm=model(task), adapter=dspy.JSONAdapter()):
        return dspy.Predict("question -> city")(question=task.ask).city


def embeddings(task: Task) -> str:
    made = dspy.Embedder(f"openai/{EMBEDDING}", api_base=OPENAI, api_key=task.key, caching=False)
    return numbers(made(task.ask).tolist())


run(plain=plain, structured=structured, embeddings=embeddings)
