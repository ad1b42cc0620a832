"""Anthropic."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from openwebui_token_tracking._original import answer_for
from openwebui_token_tracking.pipes.compatible import gone
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

    @property
    def MAX_IMAGE_SIZE(self) -> int:  # noqa: N802  (its name in 0.1)
        """The largest image in bytes that Anthropic takes. It decides by itself.

        :raises AttributeError: if it is set
        """
        return 5 * 1024 * 1024

    @MAX_IMAGE_SIZE.setter
    def MAX_IMAGE_SIZE(self, value: int) -> None:  # noqa: N802
        raise AttributeError(
            f"{type(self).__name__}.MAX_IMAGE_SIZE is not read any more. Override _payload, which gets the request in OpenAI's "
            "form, and refuse there what is too large."
        )

    def _process_messages(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of 0.1: the gateway does that.

        :raises NotImplementedError: always
        """
        raise gone(self, "_process_messages")

    def _process_image(self, image_data: dict[str, Any]) -> dict[str, Any]:
        """Of 0.1: the gateway does that.

        :raises NotImplementedError: always
        """
        raise gone(self, "_process_image")

    def server(self) -> dict[str, Any]:
        return {"base_url": self.valves.ANTHROPIC_API_BASE_URL, "api_key": self.valves.ANTHROPIC_API_KEY}


if not TYPE_CHECKING:
    __getattr__ = answer_for(__name__)
