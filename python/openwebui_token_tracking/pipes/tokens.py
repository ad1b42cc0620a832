"""How many tokens a request used, as a pipe of one's own reports it."""

from typing import Any


class TokenCount:
    """Tokens of one request, counted by the provider. Zero, or ``None``, means that it did not say.

    Parts lie inside their whole: cached tokens are prompt tokens, reasoning tokens are response tokens.
    """

    def __init__(
        self,
        prompt_tokens: int | None = 0,
        response_tokens: int | None = 0,
        cached_tokens: int | None = 0,
        reasoning_tokens: int | None = 0,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.response_tokens = response_tokens
        self.cached_tokens = cached_tokens
        self.reasoning_tokens = reasoning_tokens


def usage_of(tokens: object) -> dict[str, Any] | None:
    """The usage in OpenAI's form; ``None`` if nothing was told. The gateway counts what is left out.

    :param tokens: a :class:`TokenCount`, or anything with its attributes
    """
    names = ("prompt_tokens", "response_tokens", "cached_tokens", "reasoning_tokens")
    prompt, response, cached, reasoning = (getattr(tokens, name, None) or 0 for name in names)
    if not (prompt or response):
        return None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": response,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
