"""Our client of a vLLM server: plain HTTP, no package of vLLM's, and nothing that is not checked."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from mmrl.core.config import InputError

BASE, ADAPTER = "policy", "adapter"  # the names of the served model and of LoRA adapters on it
START = "start it with `mmrl serve MODEL`"


class EngineError(Exception):
    """The engine gave no answer, though the question was right: it is gone, stalled, or has forgotten its weights."""

    def __init__(self, cause: Literal["gone", "stalled", "failed", "forgot"], detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Client:
    """Calls to the server at `address`, each of which gives up after `deadline` seconds."""

    address: str
    deadline: float

    def call(self, path: str, body: Mapping[str, Any] | None = None, *, deadline: float | None = None) -> Any:
        """The JSON (or text) that the server replies to a POST of `body`, or to a GET without one.

        An EngineError where the server is at fault, an InputError where it refuses the request.
        """
        deadline = deadline or self.deadline
        try:
            status, content = self._exchanged(path, body, deadline)
        except TimeoutError:
            raise EngineError("stalled", f"no reply from {self.address}{path} within {deadline:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise EngineError("gone", f"{self.address}{path}: {type(error).__name__}: {error}") from None
        if status >= 500 or (status == 404 and b"does not exist" in content):
            cause = "forgot" if status == 404 else "failed"
            raise EngineError(cause, f"{self.address}{path}: status {status}: {content[:300].decode(errors='replace')}")
        if status != 200:
            refusal = content[:300].decode(errors="replace")
            hint = f"; {START}" if status == 404 else ""
            raise InputError(f"{self.address}{path} refuses the request with status {status}: {refusal}{hint}")
        try:
            return json.loads(content) if content.strip() else None
        except ValueError:
            return content.decode(errors="replace")

    def post(self, path: str, **query: str) -> Any:
        """A POST without a body."""
        return self.call(path + ("?" if query else "") + "&".join(f"{k}={v}" for k, v in query.items()), {})

    def generated(self, body: Mapping[str, Any]) -> Any:
        """The reply of the token endpoint."""
        return self.call("/inference/v1/generate", body)

    def told(self, method: str, *arguments: Any) -> Any:
        """What the worker's `method` returned; with several workers, the first one's."""
        reply = self.call("/collective_rpc", {"method": method, "args": list(arguments)})
        try:
            return reply["results"][0]
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{self.address} gave no result of {method}: {str(reply)[:200]}; {START}") from None

    def healthy(self, *, within: float = 10.0) -> bool:
        """Whether the server says that it is well, within some seconds."""
        try:
            self.call("/health", deadline=within)
        except (EngineError, InputError):
            return False
        return True

    def _exchanged(self, path: str, body: Mapping[str, Any] | None, deadline: float) -> tuple[int, bytes]:
        parts = urlsplit(self.address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=deadline)
        try:
            content = None if body is None else json.dumps(body).encode()
            headers = {"content-type": "application/json"} if body is not None else {}
            connection.request("GET" if body is None else "POST", parts.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
