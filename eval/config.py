"""The config of `mmrl eval run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from eval.answer.lmms_eval import LmmsTasks
from eval.answer.server import ServerSpec
from eval.benchmarks.base import BenchmarkFiles
from eval.decode.config import OF_PICTURES, OF_PICTURES_ALONE, SAMPLED, DecodeSpec, TreeSearch
from eval.generation import Sampling
from eval.sample_sets import DatasetSplit
from mmrl.core.config import Config
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.engine.settings import VllmSettings
from mmrl.model.flow.settings import PictureSettings
from mmrl.tools.settings import ToolSettings
from rewards import RewardSpec
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.prompt_form import PromptForm
from rewards.suite import FailedShare

OF_TEXT = ("vision", "space", "prompt", "rollout", "blind", "cache")


class EvalConfig(Config):
    """`mmrl eval run`: a model, the samples it answers, the rewards that score it, and where the records go.

    `engine`: `local` (a checkpoint in this process), `vllm` (a checkpoint answered by vLLM, which the block `vllm` says
    how to reach, as `local` to rounding), `flow` (a pipeline of diffusers, which makes pictures as the block `flow`
    says), `openai` (a server, with `model` the name it serves), `replay`
    (`model` is the directory of another run, or a JSONL file of responses), `given` (the pictures that an editor called
    `model` made, for benchmarks with `edits`) or `lmms_eval` (a checkpoint that answers the tasks `lmms` of that
    harness, which scores them and writes its own files). `decode` lets rewards guide the answers. `space` is the
    coordinate space that the model uses. `prompt` says how the questions are asked; by default as the recipe of `data`
    says. `rollout` names tools that the model may call, as in training. `blind` asks without the media. `cache` keeps
    answers for other runs. Reports withhold a mean when more than `max_unjudged` of its verdicts are missing.
    """

    model: str
    data: DatasetSplit = DatasetSplit(path="")
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    benchmarks: dict[str, BenchmarkFiles] = Field(default_factory=dict)
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    out: str
    engine: Literal["local", "vllm", "flow", "openai", "replay", "given", "lmms_eval"] = "local"
    lmms: LmmsTasks | None = None
    server: ServerSpec | None = None
    vllm: VllmSettings | None = None
    flow: PictureSettings = PictureSettings()
    sampling: Sampling = Sampling()
    decode: DecodeSpec | None = None
    vision: VisionBudget = VisionBudget()
    space: CoordinateSpace = CoordinateSpace.resized
    prompt: PromptForm | None = None
    rollout: ToolSettings = ToolSettings()
    blind: bool = False
    batch_size: PositiveInt = 16
    cache: Path | None = None
    max_unjudged: Annotated[float, Field(ge=0, le=1)] = 0.1
    form_only: list[str] = Field(default_factory=list)  # this and the next two: for training alone; a suite may say it
    max_failed: FailedShare = 0.5
    min_calls: PositiveInt = 200

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> Self:
        if (self.engine == "lmms_eval") != (self.lmms is not None):
            raise ValueError(f"engine {self.engine} with lmms {self.lmms!r}; `lmms` goes with engine: lmms_eval")
        if self.lmms:
            if self.benchmarks or self.rewards or self.data.path or self.blind:
                raise ValueError("`lmms` tasks bring their own data and scores; leave data, rewards, blind out")
            if self.prompt and (self.prompt.system or self.prompt.tasks):
                raise ValueError("`lmms` tasks bring their own prompts; of `prompt` leave chat_template_kwargs alone")
            return self
        if bool(self.benchmarks) == bool(self.data.path):
            raise ValueError("give either `data` with `rewards`, or `benchmarks`, which bring their own scorers")
        if self.benchmarks and self.rewards:
            raise ValueError("`benchmarks` bring their own scorers; leave `rewards` out")
        if not self.benchmarks and not self.rewards:
            raise ValueError("`data` needs `rewards` to score it")
        return self

    def parts(self) -> list[EvalConfig]:
        """A config for each of the benchmarks, with its scorers as `rewards` and a directory of its name as `out`; this
        config if there are none."""
        if not self.benchmarks:
            return [self]
        from eval.benchmarks import find_benchmark

        parts = []
        for name, files in self.benchmarks.items():
            scorers = find_benchmark(name).scorers_with(self.judges, files.args)
            rewards = {key: RewardSpec.model_validate(spec) for key, spec in scorers.items()}
            change = {"benchmarks": {name: files}, "rewards": rewards, "out": str(Path(self.out) / name)}
            parts.append(self.model_copy(update=change))
        return parts

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if (self.engine == "openai") != (self.server is not None):
            raise ValueError(f"engine {self.engine} with server {self.server!r}; `server` goes with engine: openai")
        if self.vllm and self.engine != "vllm":
            raise ValueError(f"engine {self.engine} with a block vllm, which goes with engine: vllm")
        if self.engine == "flow":
            self._check_pictures()
        elif self.flow != PictureSettings():
            raise ValueError(f"engine {self.engine} with a block flow, which goes with engine: flow")
        if self.server and self.space == "resized" and not self.server.geometry:
            raise ValueError("space resized needs server.geometry (patch, merge), or the seen size is not known")
        if self.decode and self.engine not in ("local", "flow", "lmms_eval"):
            raise ValueError(f"decode {self.decode.method} steers a model in this process; set engine: local or flow")
        if isinstance(self.decode, OF_PICTURES_ALONE) and self.engine != "flow":
            raise ValueError(f"decode {self.decode.method} makes pictures; set engine: flow")
        if self.rollout.tools and (self.engine != "local" or self.decode or self.cache):
            raise ValueError("rollout.tools needs engine: local, and goes neither with decode nor with cache")
        if isinstance(self.decode, SAMPLED) and not self.sampling.do_sample and self.engine != "flow":
            raise ValueError(f"decode {self.decode.method} would choose among equal greedy answers; do_sample: true")
        return self

    def _check_pictures(self) -> None:
        for key in OF_TEXT:
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                raise ValueError(f"{key} is for models that write, not for engine: flow; remove it")
        if extra := sorted(self.sampling.model_fields_set - {"do_sample", "samples", "seed"}):
            raise ValueError(f"sampling.{extra[0]} is for models that write; of pictures it has samples and seed")
        if self.decode is None:
            return
        method, noise, steps = self.decode.method, self.flow.noise, self.flow.steps
        if method not in OF_PICTURES:
            raise ValueError(f"decode {method} is for models that write; pictures have {', '.join(OF_PICTURES)}")
        if method == "reno" and noise:
            raise ValueError(f"decode reno follows the flow, but flow.noise is {noise:g}; leave it out")
        if isinstance(self.decode, TreeSearch):
            if not noise:
                raise ValueError(f"decode {method} needs steps that differ: set flow.noise, such as 0.7")
            if self.decode.evaluations < steps:
                raise ValueError(
                    f"decode.evaluations is {self.decode.evaluations}, but a picture takes flow.steps: {steps}"
                )
