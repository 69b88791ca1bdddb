"""What can go wrong, as types that carry no driver with them."""

from __future__ import annotations


class SettingsError(Exception):
    """The environment does not make sense; the message names every problem."""


class UnavailableError(Exception):
    """A dependency did not answer, or is not ready for what was asked."""


class HttpError(Exception):
    """An answer other than success, decided while a request is looked at."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Keep the status, the sentence for the client, and headers that belong to it."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
