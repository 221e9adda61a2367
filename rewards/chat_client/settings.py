"""The settings of a client: where the server is, and how hard it may be asked."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from mmrl.core.config import Config, InputError


def _address(url: str) -> str:
    parts = urlsplit(url)
    _ = parts.port  # a ValueError where it is not a number from 0 to 65535
    if re.fullmatch(r"[\d.]+", parts.hostname or ""):
        ipaddress.IPv4Address(parts.hostname or "")
    return url


BaseUrl = Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"), AfterValidator(_address)]


class ServerSettings(Config):
    """How a server is asked. Specs add `base_url`, the address without `/chat/completions`.

    `deadline` is the seconds of one call from its first request to its reply, retries and pauses included; waiting for
    one of the `concurrency` places does not count. `rate` is requests a second. After `breaker` failures in a row no
    request is sent for `pause` seconds, and then a single one.
    """

    api_key_env: str | None = None  # the NAME of the environment variable that holds the key
    concurrency: PositiveInt = 16
    rate: PositiveFloat | None = None
    burst: PositiveInt = 1
    deadline: PositiveFloat = 30.0
    retries: Annotated[int, Field(ge=0)] = 2
    backoff: PositiveFloat = 0.5  # seconds, doubled at every retry; the pause is random between 0 and that
    breaker: PositiveInt = 16
    pause: PositiveFloat = 5.0
    max_response: PositiveInt = 1_000_000  # bytes
    extra: dict[str, Any] = Field(default_factory=dict)  # more fields of the request, such as top_p

    def api_key(self, owner: str) -> str | None:
        """The key of the server, or None. `owner` is named in the InputError if the variable holds no key, or if
        aiohttp is not installed."""
        if importlib.util.find_spec("aiohttp") is None:
            raise InputError(f"{owner} is asked through aiohttp: pip install 'mmrl-stack[judge]'")
        if not self.api_key_env:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if len(key.split()) != 1 or not key.isprintable():
            raise InputError(f"{owner}: the environment variable {self.api_key_env} holds no key; put one there")
        return key
