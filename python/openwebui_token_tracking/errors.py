"""What can go wrong, as exceptions, by what their caller can do. Their text is made for the people who see it."""

import logging

logger = logging.getLogger(__name__)


class LocalError(Exception):
    """The gateway refused a call, or is not there.

    ``status`` is the HTTP status (503 if there was no answer); ``code`` names the reason for programs.
    """

    def __init__(self, message: str, status: int = 503, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # The gateway's id of the request, if it was admitted before it failed.
        self.request_id: str | None = None

    @property
    def for_users(self) -> str:
        """What a user of a pipe reads: nothing about machines inside."""
        return str(self)


class GatewayGoneError(LocalError):
    """There was no answer: the process that tracks could not be started, or ended. The next call starts it again.

    Its text is for administrators and scripts, and may name an address; ``for_users`` does not.
    """

    def __init__(self, message: str, for_users: str | None = None) -> None:
        super().__init__(message, 503, "gateway_gone")
        self._for_users = for_users

    @property
    def for_users(self) -> str:
        return self._for_users or str(self)


class AwayError(ConnectionError):
    """What a tracker raises while the database, or the process that tracks, can't be reached. Nothing was recorded or changed,
    unless the text says that there was no answer.
    """


class RequestError(Exception):
    """A request to a model failed. ``status`` and ``code`` are the gateway's, where it was the gateway that said so."""

    def __init__(self, message: str = "", status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class TokenLimitExceededError(Exception):
    """A limit of credits is reached."""


class DailyTokenLimitExceededError(TokenLimitExceededError):
    """The limit of this day is reached: a user's own, or the one of each user of a sponsored allowance."""


class TotalTokenLimitExceededError(TokenLimitExceededError):
    """A sponsored allowance is used up, by all its users together."""


# The code of a limit that is reached.
QUOTA = "insufficient_quota"


def user_text(error: LocalError) -> str:
    """What a user of a pipe reads. What only an administrator should read goes to the log."""
    text = error.for_users
    if text != str(error):
        logger.error("%s", error)
    return text


def plain(error: LocalError) -> Exception:
    """The exception of a tracker for what the gateway said; the other one becomes its cause."""
    message = str(error)
    if error.status in (400, 409, 413, 422):
        return ValueError(message)
    if error.status == 404:
        return KeyError(message)
    if error.status in (401, 403):
        return PermissionError(message)
    return AwayError(message)


def shown(error: LocalError) -> Exception:
    """The exception of a pipe for what the gateway said."""
    if error.code != QUOTA:
        return RequestError(user_text(error), error.status, error.code)
    message = str(error)
    if "total limit" in message:
        return TotalTokenLimitExceededError(message)
    return DailyTokenLimitExceededError(message)
