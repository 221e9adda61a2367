"""The settings of a judge in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from rewards.chat_client.settings import BaseUrl, ServerSettings


class JudgeSpec(ServerSettings):
    """A judge of a suite: where it is, how hard it may be asked (ServerSettings), and how it answers.

    With `backend: hf`, `model` is a checkpoint (a path or hub id) that answers in this process, greedily, `batch`
    questions at once; `deadline` is then that of a batch. Settings of servers do not apply to it.
    """

    backend: Literal["openai", "hf"] = "openai"
    base_url: BaseUrl | None = None
    model: Annotated[str, Field(min_length=1)]
    batch: PositiveInt = 8
    device: Annotated[str, Field(min_length=1)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cache: Path | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: PositiveInt = 1024
    seed: int | None = None
    max_pixels: PositiveInt = 1_003_520  # of each picture as it is sent
    max_frames: PositiveInt = 8  # of each video
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
