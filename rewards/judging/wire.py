"""Requests to an OpenAI-compatible server through httpx, and what may come of one."""

from __future__ import annotations

import functools
import json
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from rewards.judging.faults import Fault

DROPPED = ("Server disconnected", "peer closed connection")  # httpx has one type for these and for what is no HTTP


class Connection:
    """A connection that is opened when needed, and kept as long as the server keeps it.

    Each has an httpx client of its own: a shared pool of 64 compares all of them at every call, for 10 ms.
    No redirects, proxies, cookies or compression; heads are bounded by httpx, bodies by `max_bytes`.
    """

    def __init__(self, base_url: str, key: str | None, max_bytes: int) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._max_bytes = max_bytes
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._http = httpx.AsyncClient(
            headers=httpx.Headers(headers, encoding="utf-8"),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
            timeout=None,  # the deadline of the call cancels it
            trust_env=False,
            verify=_certificates(),
        )
        self._kept = False

    async def reply(self, body: Mapping[str, Any]) -> str:
        """The text of the server's reply, or a Fault."""
        try:
            status, headers, content = await self._exchanged(json.dumps(body).encode())
        except (httpx.TransportError, OSError) as error:  # httpx lets some errors of TLS through
            if _dropped(error):
                raise Fault("connection", f"{type(error).__name__}: {error}", again=True) from None
            raise Fault("malformed", f"not HTTP/1.1: {error}") from None
        if status != 200:
            raise _refusal(status, headers.get("retry-after", ""), content)
        return first_tokens_of(content) if body.get("logprobs") else text_of(content)

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _exchanged(self, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """The status, headers and body of the response."""
        kept, self._kept = self._kept, False
        request = self._http.build_request("POST", self._url, content=content)
        try:
            response = await self._http.send(request, stream=True)
        except httpx.TransportError as error:
            if not (kept and _dropped(error)):
                raise
            response = await self._http.send(request, stream=True)  # the server had closed a kept connection
        try:
            body = await self._body(response)
        finally:
            await response.aclose()
        self._kept = True
        return response.status_code, response.headers, body

    async def _body(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Fault("malformed", f"the server compresses its reply ({response.headers['content-encoding']:.50})")
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > self._max_bytes:
                raise Fault("too_large", f"more than {self._max_bytes} bytes")
        return bytes(content)


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


@functools.cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()


def _dropped(error: Exception) -> bool:
    return isinstance(error, httpx.NetworkError | OSError) or str(error).startswith(DROPPED)


def _refusal(status: int, retry_after: str, content: bytes) -> Fault:
    detail = f"status {status}: {content[:200]!r}"
    if status == 429 or status >= 500:
        after = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
        return Fault("throttled" if status == 429 else "server", detail, again=True, after=after)
    return Fault("refused", detail)
