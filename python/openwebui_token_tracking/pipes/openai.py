"""OpenAI, and the servers that are compatible with it."""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes.provider import ProviderTrackedPipe, ProviderValves, secret

# Compatible servers with a dialect of their own, by the end of their host's name.
_HOSTS = {
    "openai.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.x.ai": "xai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.voyageai.com": "voyage",
}
# The same by the provider's name, for servers that anybody may run anywhere.
_NAMES = {"azure", "openrouter", "deepseek", "groq", "vllm", "tgi", "litellm"}


class OpenAITrackedPipe(ProviderTrackedPipe):
    """OpenAI, or any server with its API: say so in the valves ``API_BASE_URL`` and ``PROVIDER``."""

    kind = "openai"

    class Valves(ProviderValves):
        """Settings of the connection."""

        API_KEY: str = secret("OPENAI_API_KEY", "The key for the API.")
        API_BASE_URL: str = Field(
            default="https://api.openai.com/v1", description="Where the API is, up to and with its version."
        )
        PROVIDER: str = Field(default="openai", description="The provider's name in the price table, in any case.")
        HEADERS: str = Field(
            default="",
            description='More headers of each request to the API, as a JSON object, such as {"X-Team": "physics"}.',
            json_schema_extra={"input": {"type": "password"}},
        )

    def provider_name(self) -> str:
        return str(self.valves.PROVIDER)

    def protocol(self) -> str:
        """The dialect, by the server's host or the provider's name."""
        host = urlsplit(self.valves.API_BASE_URL).hostname or ""
        for end, kind in _HOSTS.items():
            if host == end or host.endswith(f".{end}"):
                return kind
        name = self.valves.PROVIDER.casefold()
        return name if name in _NAMES else self.kind

    def server(self) -> dict[str, Any]:
        server: dict[str, Any] = {"base_url": self.valves.API_BASE_URL, "api_key": self.valves.API_KEY}
        # Valves that a subclass has written may lack it.
        headers = getattr(self.valves, "HEADERS", "")
        if headers.strip():
            server["headers"] = _headers(headers)
        return server


def _headers(text: str) -> dict[str, str]:
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        # It may hold a secret: what is wrong with it is said without it.
        raise RequestError("The valve HEADERS must be a JSON object with a text for each header.")
    return headers


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
