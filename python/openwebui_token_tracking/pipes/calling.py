"""What Open WebUI says when it calls a pipe: who asks, for which model, from which chat, for which task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from openwebui_token_tracking.errors import RequestError
from openwebui_token_tracking.pipes.signing import signed_user

# What is between the name of a sponsored allowance and the rest of a workspace model's id.
_SPONSORED = "---"
# What the ids of models begin with that an allowance offers as models of their own: `sponsored/{allowance}/{model}`.
_OWN = "sponsored/"


@dataclass(frozen=True)
class Call:
    """One call of a pipe."""

    user: Mapping[str, Any]
    provider: str
    model_id: str
    """The provider's own id of the model."""
    workspace_model: str | None
    """The id of the chat's workspace model; for a task, of the chat that it is for."""
    task: str | None
    chat_id: str | None
    message_id: str | None
    metadata: Mapping[str, Any]

    @classmethod
    def read(
        cls,
        provider: str,
        body: Mapping[str, Any],
        user: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        task: object = None,
        task_body: Mapping[str, Any] | None = None,
    ) -> "Call":
        """Reads Open WebUI's arguments, as all its versions since 0.6 give them.

        :raises RequestError: if there is no user, or no model
        """
        if not user or not user.get("id"):
            raise RequestError("Open WebUI did not say who asks, so nobody can be charged.")
        metadata = metadata or {}
        asked = str(body.get("model") or "")
        task = task or metadata.get("task")
        model_id = _without_function(asked, provider, bool(metadata))
        if not model_id:
            raise RequestError("The request names no model.")
        task_body = task_body or metadata.get("task_body") or {}
        return cls(
            user=user,
            provider=provider,
            model_id=model_id,
            workspace_model=_workspace_model(asked, metadata, task_body if task else None),
            # In 0.6 it is an enumeration.
            task=str(getattr(task, "value", task)) if task else None,
            chat_id=metadata.get("chat_id") or None,
            message_id=metadata.get("message_id") or None,
            metadata=metadata,
        )

    @property
    def sponsored_allowance_name(self) -> str | None:
        """The sponsored allowance that the model, or the workspace model, names. Whether it opens it, the gateway decides."""
        if self.model_id.startswith(_OWN):
            return self.model_id[len(_OWN) :].partition("/")[0]
        if self.workspace_model is None or _SPONSORED not in self.workspace_model:
            return None
        return self.workspace_model.split(_SPONSORED, 1)[0]

    def headers(self, sign: bool = False) -> dict[str, str]:
        """Who asks, and for what, as the gateway's headers say it.

        :param sign: signs who asks if Open WebUI's environment has a secret for that, for a gateway that others can reach
        """
        signed = signed_user(self.user) if sign else {}
        return {**(signed or self._plain_user()), **self._subject()}

    def _plain_user(self) -> dict[str, str]:
        values = {"X-OpenWebUI-User-Id": self.user["id"], "X-OpenWebUI-User-Email": self.user.get("email")}
        headers = {name: plain(str(value)) for name, value in values.items() if value}
        if self.user.get("name"):
            # As Open WebUI writes it.
            headers["X-OpenWebUI-User-Name"] = quote(str(self.user["name"]), safe=" ")
        return headers

    def _subject(self) -> dict[str, str]:
        values = {
            "X-OpenWebUI-Chat-Id": self.chat_id,
            "X-Tracking-Message": self.message_id,
            "X-Tracking-Task": self.task,
            "X-Tracking-Model": self.workspace_model,
        }
        return {name: plain(str(value)) for name, value in values.items() if value}

    def labels(self) -> dict[str, str]:
        """The same, as the gateway's bodies say it."""
        values = {
            "user": self.user["id"],
            "user_name": self.user.get("name"),
            "user_email": self.user.get("email"),
            "chat_id": self.chat_id,
            "message_id": self.message_id,
            "task": self.task,
            "workspace_model": self.workspace_model,
        }
        return {name: str(value) for name, value in values.items() if value}


def plain(value: str) -> str:
    """A header's value in plain ASCII: percent-encoded where it is not."""
    is_plain = value.isascii() and value.isprintable() and "%" not in value
    return value if is_plain else quote(value, safe=" /:@+-._~")


def _without_function(asked: str, provider: str, from_open_webui: bool) -> str:
    """The provider's id in ``function.id``. The function's id may be the provider's in any case, or another identifier."""
    function, dot, rest = asked.partition(".")
    if not dot:
        return asked
    # Open WebUI always puts the function first. Called from elsewhere, `gpt-4.1` is a model.
    if function.casefold() == provider.casefold() or (from_open_webui and function.isidentifier()):
        return rest
    return asked


def _workspace_model(asked: str, metadata: Mapping[str, Any], task_body: Mapping[str, Any] | None) -> str | None:
    """The workspace model that the chat uses, if it uses one."""
    model = _object(metadata.get("model"))
    # Where the base model stands has changed between versions.
    info = _object(model.get("info")) or model
    base, chats = info.get("base_model_id"), model.get("id")
    if task_body is not None:
        # A task is for a chat, and may be done by another model than that chat's.
        of_chat = task_body.get("model") or chats
        return None if of_chat == asked or (of_chat == chats and not base) else of_chat
    # From 0.12 on each call says its own model; `model` is the first one's where two answer side by side.
    named = metadata.get("model_id")
    if named and named != chats:
        return None if named == asked else named
    return chats or info.get("id") if base == asked else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
