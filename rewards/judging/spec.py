"""What a judge is in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from mmrl.config import Config


def _with_port(url: str) -> str:
    urlsplit(url).port  # noqa: B018 - a ValueError where it is no number from 0 to 65535
    return url


class JudgeSpec(Config):
    """A judge of a suite: where it is, how hard it may be asked, and how it answers.

    `deadline` is the seconds of one call from its first request to its reply, retries and pauses included; waiting for
    a free place does not count. `rate` is requests a second. After `breaker` failures in a row no request is sent for
    `pause` seconds, and then a single one.
    """

    backend: Literal["openai"] = "openai"
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"), AfterValidator(_with_port)]
    model: Annotated[str, Field(min_length=1)]
    api_key_env: str | None = None  # the NAME of the environment variable that holds the key
    concurrency: PositiveInt = 16
    rate: PositiveFloat | None = None
    burst: PositiveInt = 1
    deadline: PositiveFloat = 30.0
    retries: Annotated[int, Field(ge=0)] = 2
    backoff: PositiveFloat = 0.5  # seconds, doubled at every retry; the pause is random between 0 and that
    breaker: PositiveInt = 16
    pause: PositiveFloat = 5.0
    cache: Path | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: PositiveInt = 1024
    seed: int | None = None
    extra: dict[str, Any] = Field(default_factory=dict)  # more fields of the request, such as top_p
    max_pixels: PositiveInt = 1_003_520  # of each picture as it is sent
    max_frames: PositiveInt = 8  # of each video
    max_response: PositiveInt = 1_000_000  # bytes
    max_chars: PositiveInt = 24_000  # of each text that is quoted to the judge
