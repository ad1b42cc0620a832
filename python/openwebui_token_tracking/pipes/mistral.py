"""Mistral."""

import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.pipes.compatible import gone
from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret

logger = logging.getLogger(__name__)


class MistralTrackedPipe(ProviderTrackedPipe):
    """Mistral's API."""

    provider = "mistral"
    kind = "mistral"

    class Valves(ProviderValves):
        """Settings of the connection."""

        MISTRAL_API_KEY: str = secret("MISTRAL_API_KEY", "The key for the API.")
        MISTRAL_API_BASE_URL: str = Field(
            default="https://api.mistral.ai/v1", description="Where the API is, up to and with its version."
        )

    def _debug(self, message: str) -> None:
        """Logs something, if the valve ``DEBUG`` is set."""
        if getattr(self.valves, "DEBUG", False):
            logger.info("%s", message)

    def _handle_response(self, response: object) -> dict[str, Any]:
        """Of 0.1: the gateway does that.

        :raises NotImplementedError: always
        """
        raise gone(self, "_handle_response")

    def server(self) -> dict[str, Any]:
        return {"base_url": self.valves.MISTRAL_API_BASE_URL, "api_key": self.valves.MISTRAL_API_KEY}


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
