"""Tracked pipes: a Function of Open WebUI needs one line, ``Pipe = AnthropicTrackedPipe``, and the import before it."""

from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes.anthropic import AnthropicTrackedPipe
from openwebui_token_tracking.pipes.base import BaseTrackedPipe, StreamContext
from openwebui_token_tracking.pipes.google_genai import GoogleTrackedPipe
from openwebui_token_tracking.pipes.mistral import MistralTrackedPipe
from openwebui_token_tracking.pipes.ollama import OllamaTrackedPipe
from openwebui_token_tracking.pipes.openai import OpenAITrackedPipe
from openwebui_token_tracking.pipes.tokens import TokenCount

__all__ = [
    "AnthropicTrackedPipe",
    "BaseTrackedPipe",
    "GoogleTrackedPipe",
    "MistralTrackedPipe",
    "OllamaTrackedPipe",
    "OpenAITrackedPipe",
    "RequestError",
    "StreamContext",
    "TokenCount",
]
