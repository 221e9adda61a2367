"""The causes that keep a server from giving a reply, or a judge from giving a verdict."""

from __future__ import annotations

from typing import Literal

Cause = Literal[
    "deadline",  # no reply in time, retries and pauses included
    "connection",  # refused, reset, closed in the middle
    "throttled",  # 429
    "server",  # 5xx
    "refused",  # any other status than 200: a redirect, a wrong key, an unknown model
    "too_large",  # more bytes than max_response
    "malformed",  # 200, but not a chat completion with text
    "circuit_open",  # too many failures in a row: not even asked
    "media",  # a picture or video of the rollout cannot be read
    "unreadable",  # a reply that is not a verdict
]


class Fault(Exception):  # noqa: N818 - a reply that did not come
    """No verdict, and why; `again` says whether asking once more may help, not before `after` seconds.

    `too_long`: the question was refused because it is longer than the model reads.
    """

    def __init__(
        self, cause: Cause, detail: str, *, again: bool = False, after: float = 0.0, too_long: bool = False
    ) -> None:
        super().__init__(cause, detail)
        self.cause: Cause = cause
        self.detail, self.again, self.after, self.too_long = detail, again, after, too_long

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


class Unreadable(ValueError):  # noqa: N818 - a reply, not a mistake in the code
    """A reply that does not have the form of verdict that was asked for."""
