"""The base of tracked pipes under the name that 0.1 gave it: :mod:`openwebui_token_tracking.pipes.base`."""

from openwebui_token_tracking.pipes.base import BaseTrackedPipe, RequestError, StreamContext, TokenCount
from openwebui_token_tracking.tracking import (
    DailyTokenLimitExceededError,
    TokenLimitExceededError,
    TotalTokenLimitExceededError,
)

__all__ = [
    "BaseTrackedPipe",
    "DailyTokenLimitExceededError",
    "RequestError",
    "StreamContext",
    "TokenCount",
    "TokenLimitExceededError",
    "TotalTokenLimitExceededError",
]
