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


def usage_of(tokens: object, produced: bool) -> dict[str, Any] | None:
    """The usage in OpenAI's form; ``None`` if it was not told, or can't be true.

    :param tokens: a :class:`TokenCount`, or anything with its attributes
    :param produced: whether there was output; then a count without any is not believed
    """
    names = ("prompt_tokens", "response_tokens", "cached_tokens", "reasoning_tokens")
    prompt, response, cached, reasoning = (getattr(tokens, name, None) or 0 for name in names)
    if not (prompt or response) or (produced and not response):
        return None
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": response,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return usage if is_believable(usage) else None


def is_believable(usage: object) -> bool:
    """Whether that is a usage in OpenAI's form whose parts lie inside their wholes."""
    if not isinstance(usage, dict):
        return False
    for whole, part in (("prompt", "cached"), ("completion", "reasoning")):
        all_of_it = _count(usage.get(f"{whole}_tokens"))
        details = usage.get(f"{whole}_tokens_details")
        some = _count((details.get(f"{part}_tokens") if isinstance(details, dict) else None) or 0)
        if all_of_it is None or some is None or some > all_of_it:
            return False
    return True


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
