"""The base of tracked pipes under the name that 0.1 gave it: :mod:`openwebui_token_tracking.pipes.base`."""

import logging
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from openwebui_token_tracking._original import answer_for
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

logger = logging.getLogger(__name__)


def _time_to_midnight() -> timedelta:
    """The time until this machine's midnight, in whole seconds. A user's day ends in the configured time zone, which may be
    another: the local route ``balance`` says when.
    """
    now = datetime.now().replace(microsecond=0)
    return now.replace(hour=0, minute=0, second=0) + timedelta(days=1) - now


def _make_mermaid_error_message(type: str, message: str) -> str:
    """A message in a box, as Open WebUI shows Mermaid's diagrams. ``type``: the name of an exception."""
    title = " ".join(re.findall("[A-Z]+[^A-Z]*", type)).upper()
    return f'```mermaid\nflowchart TD\nbox["{title}"]\n```\n{message}\n'


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
