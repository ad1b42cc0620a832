"""The description of a price."""

from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import BaseModel

from openwebui_token_tracking._original import answer_for


class ModelPricingSchema(BaseModel):
    """What a model costs: credits for so many tokens in, and credits for so many tokens out."""

    provider: str
    """Who serves the model, such as ``openai``."""
    id: str
    """The provider's id of the model."""
    name: str
    """The model's name for people."""
    input_cost_credits: int | Decimal
    """Credits for ``per_input_tokens`` input tokens."""
    per_input_tokens: int
    output_cost_credits: int | Decimal
    """Credits for ``per_output_tokens`` output tokens."""
    per_output_tokens: int


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
