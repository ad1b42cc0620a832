"""Mistral."""

from typing import Any

from pydantic import Field

from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret


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

    def server(self) -> dict[str, Any]:
        return {"base_url": self.valves.MISTRAL_API_BASE_URL, "api_key": self.valves.MISTRAL_API_KEY}
