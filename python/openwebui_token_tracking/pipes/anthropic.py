"""Anthropic."""

from typing import Any

from pydantic import Field

from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret


class AnthropicTrackedPipe(ProviderTrackedPipe):
    """Anthropic's Messages API."""

    provider = "anthropic"
    kind = "anthropic"

    class Valves(ProviderValves):
        """Settings of the connection."""

        ANTHROPIC_API_KEY: str = secret("ANTHROPIC_API_KEY", "The key for the API.")
        ANTHROPIC_API_BASE_URL: str = Field(
            default="https://api.anthropic.com", description="Where the API is, without its version."
        )

    def server(self) -> dict[str, Any]:
        return {"base_url": self.valves.ANTHROPIC_API_BASE_URL, "api_key": self.valves.ANTHROPIC_API_KEY}
