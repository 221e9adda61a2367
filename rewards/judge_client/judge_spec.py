"""What a judge is in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from mmrl.core.config import Config


def _with_port(url: str) -> str:
    urlsplit(url).port  # noqa: B018 - a ValueError where it is no number from 0 to 65535
    return url


class JudgeSpec(Config):
    """A judge of a suite: where it is, how hard it may be asked, and how it answers.

    `deadline` is the seconds of one call from its first request to its reply, retries and pauses included; waiting for
    a free place does not count. `rate` is requests a second. After `breaker` failures in a row no request is sent for
    `pause` seconds, and then a single one.

    With `backend: hf`, `model` is a checkpoint (a path or hub id) that answers in this process, greedily, `batch`
    questions at once; `deadline` is then that of a batch. What is about servers does not apply to it.
    """

    backend: Literal["openai", "hf"] = "openai"
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"), AfterValidator(_with_port)] | None = (
        None
    )
    model: Annotated[str, Field(min_length=1)]
    api_key_env: str | None = None  # the NAME of the environment variable that holds the key
    batch: PositiveInt = 8
    device: Annotated[str, Field(min_length=1)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
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

    @model_validator(mode="after")
    def _of_its_backend(self) -> Self:
        if self.backend == "openai" and self.base_url is None:
            raise ValueError("base_url is missing: the address of the server, such as http://127.0.0.1:8000/v1")
        other = ("base_url", "api_key_env", "rate", "extra") if self.backend == "hf" else ("batch", "device", "dtype")
        wrong = [
            name
            for name in other
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        ]
        if wrong:
            raise ValueError(f"backend {self.backend} takes no {', '.join(wrong)}")
        if self.backend == "hf" and self.temperature:
            raise ValueError(f"backend hf is greedy: temperature {self.temperature:g} must be 0")
        return self
