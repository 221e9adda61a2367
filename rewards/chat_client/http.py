"""Requests to an OpenAI-compatible server through aiohttp, and the possible outcomes of one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from rewards.chat_client.faults import Fault

_TOO_LONG = re.compile(  # in the words of OpenAI, vLLM, SGLang, llama.cpp and TGI
    rb"context.{0,20}(length|size|window)|(input|prompt)\W.{0,80}too long|`max_new_tokens` must be",
    re.IGNORECASE | re.DOTALL,
)


class Connection:
    """A connection that is opened when needed, and kept as long as the server keeps it.

    No redirects, proxies, cookies or compression; heads are bounded by aiohttp, bodies by `max_bytes`.
    """

    def __init__(self, base_url: str, key: str | None, max_bytes: int) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._max_bytes = max_bytes
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=3600),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the deadline of the call cancels it
            auto_decompress=False,
        )
        self._kept = False

    async def reply(self, body: Mapping[str, Any]) -> bytes:
        """The server's reply to a request, or a Fault."""
        try:
            status, headers, content = await self._exchanged(json.dumps(body).encode())
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise Fault("connection", f"{type(error).__name__}: {error}", again=True) from None
        except aiohttp.ClientError as error:
            raise Fault("malformed", f"not HTTP/1.1: {error}") from None
        if status != 200:
            raise _refusal(status, headers.get("retry-after", ""), content)
        return content

    async def close(self) -> None:
        """Close the connection."""
        await self._http.close()

    async def _exchanged(self, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """The status, headers and body of the response."""
        kept, self._kept = self._kept, False
        try:
            found = await self._posted(content)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not kept:
                raise
            found = await self._posted(content)  # the server had closed a kept connection
        self._kept = True
        return found

    async def _posted(self, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        async with self._http.post(self._url, data=content, allow_redirects=False) as response:
            coding = response.headers.get("content-encoding", "identity")
            if coding != "identity":
                raise Fault("malformed", f"the server compresses its reply ({coding:.50})")
            body = bytearray()
            while piece := await response.content.readany():
                body += piece
                if len(body) > self._max_bytes:
                    raise Fault("too_large", f"more than {self._max_bytes} bytes")
            return response.status, response.headers, bytes(body)


def text_of(body: bytes) -> str:
    """The text of the first choice of a chat completion.

    >>> text_of(b'{"choices": [{"message": {"content": "7"}}]}')
    '7'
    """
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise Fault("malformed", f"no chat completion ({type(error).__name__}): {body[:100]!r}") from None
    if not isinstance(text, str) or not text.strip():
        raise Fault("malformed", f"a chat completion without text: {text!r:.100}")
    return text


def first_tokens_of(body: bytes) -> str:
    """The likeliest first tokens of a chat completion with their log-probabilities, as a JSON object.

    >>> likely = {"content": [{"token": "No", "top_logprobs": [{"token": "No", "logprob": -0.1}]}]}
    >>> first_tokens_of(json.dumps({"choices": [{"logprobs": likely}]}).encode())
    '{"No": -0.1}'
    """
    try:
        likely = json.loads(body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return json.dumps({one["token"]: one["logprob"] for one in likely})
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise Fault("malformed", f"no log-probabilities ({type(error).__name__}): {body[:100]!r}") from None


def _refusal(status: int, retry_after: str, content: bytes) -> Fault:
    detail = f"status {status}: {content[:200]!r}"
    if status == 429 or status >= 500:
        return Fault("throttled" if status == 429 else "server", detail, again=True, after=seconds_of(retry_after))
    return Fault("refused", detail, too_long=bool(_TOO_LONG.search(content[:2000])))


def seconds_of(retry_after: str) -> float:
    """The seconds from now that a Retry-After header names, as a number or as a date; 0 for anything else.

    >>> seconds_of("1.5"), seconds_of("Wed, 21 Oct 2015 07:28:00 GMT"), seconds_of("soon")
    (1.5, 0.0, 0.0)
    """
    try:
        if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", retry_after):
            return float(retry_after)
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError, OSError):
        return 0.0
