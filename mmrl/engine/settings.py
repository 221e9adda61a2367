"""The settings of an engine that answers outside the trainer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mmrl.core.config import Config
from rewards.chat_client.settings import BaseUrl

OF_OWN_SERVER = ("python", "arguments", "environment", "command")


class VllmSettings(Config):
    """How vLLM is reached. By default a server is started, watched, and ended with the run.

    `base_url`: a server that is there already (`mmrl serve`). `inside`: no server, vLLM in this process. `python`: the
    interpreter that has vLLM. `arguments`: more arguments of vLLM (`{max_model_len: 8192}`). `environment`: more
    variables (`{CUDA_VISIBLE_DEVICES: 1}`). `command`: what starts the server instead, with `{model}` and `{port}`.
    After `deadline` seconds without a reply the server has stalled. `restarts`: how often in a row it may fail.
    `exchange`: a folder for new weights that both see. `check_every`: steps between comparisons of log-probs with the
    trainer's. `versions`: of vLLM, by their beginning.
    """

    base_url: BaseUrl | None = None
    inside: bool = False
    python: str = sys.executable
    arguments: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(default_factory=dict)
    command: list[str] | None = None
    deadline: PositiveFloat = 600.0
    start_deadline: PositiveFloat = 900.0
    restarts: Annotated[int, Field(ge=0)] = 3
    concurrency: PositiveInt = 128
    exchange: Path | None = None
    check_every: PositiveInt = 50
    versions: tuple[str, ...] = ("0.32.",)

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        given = self.unusual(OF_OWN_SERVER)
        if self.base_url and (given or self.inside):
            raise ValueError(
                f"base_url names a server that runs already, {', '.join(given) or 'inside'} would start another "
                "engine; leave one of them out"
            )
        return self
