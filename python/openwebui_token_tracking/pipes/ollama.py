"""Ollama."""

from typing import Any

from pydantic import Field

from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret


class OllamaTrackedPipe(ProviderTrackedPipe):
    """Ollama's own API. Its models need a price too; it may be zero."""

    provider = "ollama"
    kind = "ollama"

    class Valves(ProviderValves):
        """Settings of the connection."""

        OLLAMA_BASE_URL: str = Field(default="http://localhost:11434", description="Where Ollama is.")
        OLLAMA_API_KEY: str = secret("OLLAMA_API_KEY", "A key, if there is a proxy that wants one.")

    def server(self) -> dict[str, Any]:
        return {"base_url": self.valves.OLLAMA_BASE_URL, "api_key": self.valves.OLLAMA_API_KEY}
