"""The config of `mmrl train`, and TRL's own arguments of its stages."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError, model_validator

from data_engine.dataset.shards import is_plain, prompt_of
from eval.generation import Sampling
from eval.sample_sets import DatasetSplit
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.families import Part
from mmrl.core.text import shown
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.engine.settings import VllmSettings
from mmrl.grpo.credit import Credit
from mmrl.grpo.engines.tree import Tree
from mmrl.grpo.injection import Injection
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.loading import is_pipeline
from mmrl.model.policy import LoraSettings
from mmrl.tools.settings import ToolSettings
from mmrl.trainers.monitor import Watch
from mmrl.trainers.token_losses import Shaping, TokenReward
from rewards import RewardSpec
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.prompt_form import PLAIN, PromptForm
from rewards.suite import FailedShare


class Advantages(Config):
    """The estimator that turns reward vectors into advantages, a name of `mmrl.advantages.ADVANTAGES`, and how a
    rollout's advantage is spread over its tokens."""

    name: str = "gdpo"
    options: dict[str, Any] = Field(default_factory=dict)
    tokens: Credit | None = None


class RolloutSettings(ToolSettings):
    """How completions are sampled, in addition to the settings of `grpo:`.

    `shared_prefix`: one prefill per prompt. `temperature`: a schedule. `refills`: how many rounds of new prompts may
    replace groups whose rewards are all constant. `inject`: the gold answer as a rollout. `importance_cap`: the largest
    importance weight (2 where `ahead` is 1). `engine`: who draws, the policy in this process or vLLM, reached as the
    block `vllm` says. `ahead`: the engine draws so many generations before they are learned from. `tools`, `max_turns`,
    `tool_seconds`: what the policy may call while it answers; `max_completion_length` then counts results as well.
    `tree`: rollouts of a group share beginnings.
    """

    shared_prefix: bool = True
    temperature: TemperatureSchedule | None = None
    refills: Annotated[int, Field(ge=0)] = 0
    inject: Injection | None = None
    importance_cap: Annotated[float, Field(gt=0)] | None = None
    engine: Literal["local", "vllm"] = "local"
    vllm: VllmSettings | None = None
    ahead: Literal[0, 1] = 0
    tree: Tree | None = None

    def tool_settings(self) -> ToolSettings:
        """What an evaluation has in common with these settings: the tools."""
        return ToolSettings(**self.model_dump(include=set(ToolSettings.model_fields), exclude_unset=True))

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if self.vllm is not None and self.engine != "vllm":
            raise ValueError(f"the block vllm goes with engine: vllm, not with engine: {self.engine}")
        if self.ahead and self.engine != "vllm":
            raise ValueError("ahead: 1 lets the engine draw while the trainer learns; it needs engine: vllm")
        if self.ahead and self.temperature is not None:
            raise ValueError("ahead: 1 draws before the step whose temperature is known; leave out one of the two")
        return self


class Evaluation(Config):
    """The samples on which a model is evaluated during training.

    The defaults are the split `test` of the training's dataset, the training's rewards, and greedy answers of up to
    `max_completion_length` tokens.
    """

    data: DatasetSplit | None = None
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    sampling: Sampling | None = None
    batch_size: PositiveInt = 16
    max_unjudged: float = 0.1


class TrainingSplit(Config):
    """Samples to learn from. `limit` takes the first rows of the split, so many of all tasks together, because their
    order is the recipe's. In evaluation it takes the smallest ids of each task (`DatasetSplit`)."""

    path: str
    split: str | None = "train"
    limit: PositiveInt | None = None


class Preferences(TrainingSplit):
    """The samples of the task `preference` that the stages `dpo` and `reward` learn from.

    `relabel`: each pair of `dpo` is asked for the score of either side, as a system message, and the side that has it
    is preferred (2410.08067). `token_reward`: `dpo` with T-REG's regulariser.
    """

    relabel: bool = False
    token_reward: TokenReward | None = None


HeadKind = Literal["scalar", "multi_response", "process", "distilled"]


class HeadSettings(Config):
    """The head of the stage `reward`, on the model of the config.

    `kind`: `scalar` scores an answer, for the reward `reward_model`; `multi_response` all answers to a prompt in one
    pass, for the reward of that name; `process` the end of each step of an answer, and `distilled` as a slower teacher
    scored it, for the reward `process_model`. With `scalar`, `margin` times the difference of two candidates'
    `meta.scores` is how much better the preferred one must score. `held_out` are the samples on which it is evaluated
    while it trains: by default the split `test` of the preferences.
    """

    kind: HeadKind = "scalar"
    margin: Annotated[float, Field(ge=0)] = 0.0
    held_out: TrainingSplit | None = None

    @model_validator(mode="after")
    def _margin_of_pairs(self) -> Self:
        if self.margin and self.kind != "scalar":
            raise ValueError(f"margin {self.margin:g} is between two answers; a head of the kind {self.kind} has none")
        return self


class TrainConfig(Config):
    """Everything about a training run. `reward`, `sft`, `dpo` and `grpo` go to TRL's RewardConfig, SFTConfig, DPOConfig
    and GRPOConfig as they are.

    `latent` trains a head that thinks before the model, which stays as it is: transformers' TrainingArguments and those
    of `mmrl.latent.arguments.LatentArguments`.

    A pipeline of diffusers that makes pictures learns by `sft`, which is flow matching with transformers'
    TrainingArguments, and by `flow`, reinforcement learning with those and `mmrl.flow.arguments.FlowArguments`.

    `prompt` says what is asked beside the questions; by default what the recipe of `data` says. `preferences` are the
    samples of `reward` and `dpo`, by default those of `data`. `sft_shaping` is another loss for `sft`. `form_only`
    names the tasks that rewards of form alone may score. A reward that fails on more than `max_failed` of `min_calls`
    or more rollouts stops the run.
    """

    model: str
    data: str  # a dataset that `mmrl data build` wrote, or a table of TRL's columns: prompt, image(s), solution
    output: str
    preferences: Preferences | None = None
    task: str | None = None  # of the rows of a table that do not name theirs
    split: str | None = "train"
    limit: PositiveInt | None = None  # the first rows of the split, of all tasks together; see `TrainingSplit`
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    attention: str | None = None
    vision: VisionBudget = VisionBudget()
    space: CoordinateSpace = CoordinateSpace.resized
    prompt: PromptForm | None = None
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    form_only: list[str] = Field(default_factory=list)
    max_failed: FailedShare = 0.5
    min_calls: PositiveInt = 200
    advantages: Advantages = Advantages()
    rollout: RolloutSettings = RolloutSettings()
    watch: Watch = Watch()
    freeze: list[Part] = Field(default_factory=list)
    lora: LoraSettings | None = None
    evaluation: Evaluation | None = None
    head: HeadSettings = HeadSettings()
    sft_shaping: Shaping | None = None
    reward: dict[str, Any] | None = None
    sft: dict[str, Any] | None = None
    dpo: dict[str, Any] | None = None
    grpo: dict[str, Any] | None = None
    latent: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_kind_of_model(self) -> Self:
        writing = [name for name in ("dpo", "grpo", "latent") if getattr(self, name) is not None]
        if self.flow is not None and writing:
            raise ValueError(f"flow: is for models that make pictures, {writing[0]}: for models that write")
        return self

    @model_validator(mode="before")
    @classmethod
    def _in_its_block(cls, values: Any) -> Any:
        """A setting of TRL at the top level: say where it belongs."""
        unknown = [key for key in values if key not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            for key in unknown:
                if key in schema_of("grpo").__dataclass_fields__:
                    raise ValueError(f"{key} is a setting of TRL and belongs into a block: grpo.{key} (or sft.{key})")
        return values


def form_of(config: TrainConfig) -> PromptForm:
    """What `config` asks beside the questions: its own `prompt`, or else that of the recipe of its data."""
    if config.prompt is not None:
        return config.prompt
    return PLAIN if is_plain(Path(config.data)) else prompt_of(config.data)


def without_device(config: TrainConfig) -> TrainConfig:
    """`config` for a machine without an accelerator, where TRL refuses its own default, bfloat16."""
    blocks = {name: {**getattr(config, name), "use_cpu": True} for name in stages_of(config)}
    return config.model_copy(update=blocks)


def makes_pictures(config: TrainConfig) -> bool:
    """Whether the run trains a pipeline of diffusers."""
    return config.flow is not None or is_pipeline(Path(config.model))


def makes_rollouts(config: TrainConfig) -> bool:
    """Whether the run learns from what the policy says or makes itself."""
    writes = config.grpo is not None or config.latent is not None
    return writes or (config.flow is not None and config.flow.get("algorithm") != "consistency")


# Of the stages, in their order, below the run's output.
FOLDERS = {"reward": "reward", "sft": "sft", "dpo": "dpo", "grpo": "", "latent": "latent", "flow": ""}
SCHEMAS = {  # the trainer's arguments of each stage
    "reward": "trl.trainer.reward_config:RewardConfig",
    "sft": "trl.trainer.sft_config:SFTConfig",
    "dpo": "trl.trainer.dpo_config:DPOConfig",
    "grpo": "trl.trainer.grpo_config:GRPOConfig",
    "latent": "mmrl.latent.arguments:LatentArguments",
    "flow": "mmrl.flow.arguments:FlowArguments",
}
PREFERRING = ("reward", "dpo")  # stages that learn from preferences
ROLLING = ("grpo", "latent", "flow")  # stages that learn from rollouts
AT_LEAST = {  # of settings that TRL and transformers do not check
    **dict.fromkeys(("num_generations", "num_iterations", "steps_per_generation", "generation_batch_size"), 1),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit"), 1),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon"), 0),
    **dict.fromkeys(("warmup_steps", "num_train_epochs", "save_pictures_steps"), 0),
    **dict.fromkeys(("sampling_steps", "ema_steps", "frames"), 1),
    "center_rewards_coefficient": 0,
}


def stages_of(config: TrainConfig) -> list[str]:
    """The stages that `config` asks for, in the order in which they run."""
    return [stage for stage in FOLDERS if getattr(config, stage) is not None]


def arguments_of(config: TrainConfig, stage: str, out: Path | None = None) -> Any:
    """The trainer's arguments of a stage, which writes to `out` (default: the run's output)."""
    ours = {"output_dir": str(out or config.output), "seed": config.seed}
    given = getattr(config, stage) or {}
    if stage == "grpo":  # else TRL wants whole groups in the batches of an evaluation
        given = {"num_generations_eval": 1, **given}
    if stage == "sft" and makes_pictures(config):
        from transformers import TrainingArguments

        return _arguments(TrainingArguments, stage, given, **ours)
    return _arguments(schema_of(stage), stage, given, **ours)


def schema_of(stage: str) -> Any:
    """The class of the arguments of a stage."""
    return resolve_name(SCHEMAS[stage])


def _arguments(schema: Any, block: str, given: dict[str, Any], **ours: Any) -> Any:
    """TRL's own config from the block of that name; unknown keys name the nearest known one."""
    from mmrl.trainers.callbacks import forget_old_names

    forget_old_names()
    known = schema.__dataclass_fields__
    hints, typed = get_type_hints(schema), dict(given)
    for key, value in given.items():
        if key in ours:
            raise InputError(f"{block}.{key} is set at the top level of the config, not in the {block} block")
        if key not in known:
            raise InputError(f"unknown key {block}.{key} (value {shown(value)}); {nearest(key, known)}")
        typed[key] = _typed(hints[key], value, f"{block}.{key}")
        _check_number(f"{block}.{key}", key, typed[key])
    try:
        made = schema(**{"report_to": "none", **typed, **ours})
    except (ValueError, TypeError) as error:
        raise InputError(f"{block}: {error}") from None
    _check_loggers(made.report_to, block)
    if getattr(made, "use_liger_kernel", False) and find_spec("liger_kernel") is None:
        raise InputError(
            f"{block}.use_liger_kernel=true: the package liger-kernel is missing; pip install liger-kernel"
        )
    return made


def _check_loggers(names: Any, block: str) -> None:
    """Refuse loggers that are not known or not installed: transformers would, once the model is loaded."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    for name in [names] if isinstance(names, str) else names:
        if name in ("all", "none"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            raise InputError(f"{block}.report_to={name!r}; {nearest(str(name), INTEGRATION_TO_CALLBACK)}")
        if name not in get_available_reporting_integrations():
            raise InputError(f"{block}.report_to={name}: the package {name} is missing; pip install {name}")


def _check_number(name: str, key: str, value: Any) -> None:
    """Refuse numbers that TRL takes and with which no step can be made."""
    if not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise InputError(f"{name}={value}; give a finite number")
    if value < AT_LEAST.get(key, -math.inf):
        raise InputError(f"{name}={value}; it must be at least {AT_LEAST[key]}")
    if key in ("adam_beta1", "adam_beta2", "ema_decay") and not 0 <= value < 1:
        raise InputError(f"{name}={value}; it must be at least 0 and below 1")


def _typed(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type that TRL declares, which it does not check: a quoted number is a number."""
    if name.endswith(".fsdp") and value is True:
        return value  # transformers wants it, and declares a text
    try:
        made = TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}: {error.errors()[0]['msg']} (got {shown(value)})") from None
    return made if isinstance(value, str) or isinstance(made, int) else value
