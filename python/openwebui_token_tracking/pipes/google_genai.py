"""Google's Gemini."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret


class GoogleTrackedPipe(ProviderTrackedPipe):
    """Google's Gemini API."""

    provider = "google_genai"
    kind = "google"

    class Valves(ProviderValves):
        """Settings of the connection."""

        GOOGLE_API_KEY: str = secret("GOOGLE_API_KEY", "The key for the API.")
        GOOGLE_API_BASE_URL: str = Field(
            default="https://generativelanguage.googleapis.com",
            description="Where the API is, without its version.",
        )
        USE_PERMISSIVE_SAFETY: bool = Field(
            default=False, description="Switch off Google's filters for harmful content."
        )

    def server(self) -> dict[str, Any]:
        return {
            "base_url": self.valves.GOOGLE_API_BASE_URL,
            "api_key": self.valves.GOOGLE_API_KEY,
            "permissive_safety": self.valves.USE_PERMISSIVE_SAFETY,
        }


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
