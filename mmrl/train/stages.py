"""`mmrl train CONFIG`: an SFT warm-up, GRPO, or one after the other. The same command continues a run that stopped."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
import yaml
from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from mmrl.core.config import Config, InputError, load, nearest
from mmrl.core.vision import CoordinateSpace, VisionBudget, check_budget
from mmrl.grpo.credit import Credit
from mmrl.grpo.injection import Injection
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.policy import LoraSettings, Part
from mmrl.trainers.evaluation import Evaluation, StepEvaluation, check_evaluation, evaluates
from mmrl.trainers.monitor import CollapseWarnings, Watch
from rewards import RewardSpec, Suite
from rewards.judge_client.judge_spec import JudgeSpec

logger = logging.getLogger(__name__)
app = typer.Typer(add_completion=False)


class Advantages(Config):
    """The estimator that turns reward vectors into advantages, a name of `mmrl.advantages.ADVANTAGES`, and how a
    rollout's advantage is spread over its tokens."""

    name: str = "gdpo"
    options: dict[str, Any] = Field(default_factory=dict)
    tokens: Credit | None = None


class RolloutSettings(Config):
    """How completions are sampled, beside what `grpo:` says: one prefill per prompt, a schedule of temperatures, and
    how many rounds of new prompts may replace groups whose rewards are all constant, the gold answer as a rollout, and
    the cap of importance weights."""

    shared_prefix: bool = True
    temperature: TemperatureSchedule | None = None
    refills: Annotated[int, Field(ge=0)] = 0
    inject: Injection | None = None
    importance_cap: Annotated[float, Field(gt=0)] | None = None


class TrainConfig(Config):
    """Everything about a training run. `sft` and `grpo` go to TRL's SFTConfig and GRPOConfig as they are."""

    model: str
    data: str
    output: str
    split: str | None = "train"
    limit: PositiveInt | None = None
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    attention: str | None = None
    vision: VisionBudget = VisionBudget()
    space: CoordinateSpace = CoordinateSpace.resized
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    advantages: Advantages = Advantages()
    rollout: RolloutSettings = RolloutSettings()
    watch: Watch = Watch()
    freeze: list[Part] = Field(default_factory=list)
    lora: LoraSettings | None = None
    evaluation: Evaluation | None = None
    sft: dict[str, Any] | None = None
    grpo: dict[str, Any] | None = None


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of a TrainConfig")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="print what the run would do and need, and stop")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="two steps on a CPU, with a tiny random twin")] = False,
) -> None:
    """Train a model: SFT warm-up (`sft:` block), then GRPO (`grpo:` block)."""
    loaded = load(TrainConfig, config, overrides)
    if plan:
        _print_plan(loaded)
    elif smoke:
        _smoke(loaded)
    else:
        typer.echo(f"trained model: {run(loaded)}")


def _print_plan(config: TrainConfig) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmrl.train.plan import plan

    config = without_device(config)
    check(config)
    for title, rows in plan(config):
        table = Table(title=title, title_justify="left", show_header=False)
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def without_device(config: TrainConfig) -> TrainConfig:
    """`config` as it may be looked at where there is no accelerator: TRL trains in bfloat16 unless told otherwise, and
    refuses that without one."""
    blocks = {
        name: {**block, "use_cpu": True} for name in ("sft", "grpo") if (block := getattr(config, name)) is not None
    }
    return config.model_copy(update=blocks)


def _smoke(config: TrainConfig) -> None:
    from mmrl.train.smoke import miniature

    with tempfile.TemporaryDirectory() as directory:
        run(miniature(config, Path(directory)))
    typer.echo("smoke test passed: every stage made two steps with a tiny random model")


def run(config: TrainConfig) -> Path:
    """Run the stages of `config` that are not done yet; returns the directory of the final model."""
    if config.sft is None and config.grpo is None:
        raise InputError("nothing to train: the config has neither an `sft:` nor a `grpo:` block")
    out = Path(config.output)
    refuse_change(config, out)
    check(config)
    model = config.model
    if config.sft is not None:
        model = str(_stage(config, out / "sft", model, _sft_trainer))
    if config.grpo is not None:
        model = str(_stage(config, out, model, _grpo_trainer))
    return Path(model)


def check(config: TrainConfig) -> None:
    """Refuse what is wrong about any stage before the first one begins."""
    from mmrl.grpo.config_checks import check_filled, check_method, check_warm_up
    from mmrl.trainers.dataset import training_samples
    from mmrl.trainers.targets import RENDERED, check_answers

    samples = training_samples(config.data, config.split, config.limit)
    tasks = sorted({sample.task for sample in samples})
    check_evaluation(
        config, [(name, arguments_of(config, name)) for name in STAGES if getattr(config, name) is not None]
    )
    if config.sft is not None:
        check_answers(samples)
        check_warm_up(_sft_arguments(config, Path(config.output)))
    if config.grpo is not None:
        from mmrl.advantages import options_of
        from mmrl.grpo.pair_sampler import pair_places

        arguments = _grpo_arguments(config, Path(config.output))
        suite, estimator = Suite(config.rewards, judges=config.judges), config.advantages
        check_method(arguments, suite.names, estimator.name, estimator.options, **method_of(config))
        if config.rollout.inject is not None:
            check_answers([sample for sample in samples if sample.task in RENDERED])
        if "pairs_P" in options_of(estimator.name):
            pair_places([sample.id for sample in samples], [sample.meta for sample in samples])
        suite.check_tasks(tasks)
        check_filled(len(samples), arguments.generation_batch_size // arguments.num_generations)
        for task, names in suite.tasks_scored(tasks).items():
            logger.warning("task %s is scored by %s", task, ", ".join(names))


def refuse_change(config: TrainConfig, out: Path) -> None:
    """Refuse another config than the one that the run in `out` began with."""
    place = out / "config.yaml"
    if not place.exists():
        return
    before, now = yaml.safe_load(place.read_text()), config.model_dump(mode="json")
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise InputError(f"{out} holds a run with another config ({', '.join(changed)} differ); choose another output")


def remember(config: TrainConfig, out: Path) -> None:
    """Write `config` to `out/config.yaml`, once it has shown that it can be trained."""
    out.mkdir(parents=True, exist_ok=True)
    staging = out / f".config.{os.getpid()}.writing"  # every process writes it, the same
    staging.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=True))
    os.replace(staging, out / "config.yaml")


def _stage(config: TrainConfig, out: Path, model_path: str, build: Any) -> Path:
    """Train one stage, from its newest checkpoint if there is one; a stage that is done is not run again."""
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from eval.answer.local import probe_sizes
    from mmrl.grpo.context_length import check_room, context_of
    from mmrl.model.policy import adapted, load_policy
    from mmrl.trainers.callbacks import MetricsFile, ProgressLine
    from mmrl.trainers.checkpoints import check_processes, latest_checkpoint
    from mmrl.trainers.dataset import as_dataset, training_samples

    final = out / "final"
    if (final / "config.json").exists():
        return final
    set_seed(config.seed)  # LoRA's first weights are random, and the same whether or not a stage ran before
    samples = training_samples(config.data, config.split, config.limit)
    model, processor = load_policy(model_path, config.vision, dtype=config.dtype, attention=config.attention)
    check_budget(processor, config.vision, probe_sizes(samples, config.vision, processor))
    if build is _grpo_trainer:
        new = _grpo_arguments(config, out).max_completion_length
        check_room(samples, processor, config.vision, context_of(model), new)
    model = adapted(model, frozen=config.freeze, lora=config.lora)
    trainer = build(config, out, model, processor, as_dataset(samples))
    if evaluates(trainer.args):
        trainer.evaluation = StepEvaluation(config, out / "eval")
    for talkative in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talkative)
    for callback in (MetricsFile(), ProgressLine(), CollapseWarnings(config.watch)):
        trainer.add_callback(callback)
    remember(config, Path(config.output))
    checkpoint = latest_checkpoint(out)
    check_processes(checkpoint, trainer.accelerator.num_processes)
    # TRL 1.16 asks for it by a name that transformers calls old, at every step
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    trainer.train(resume_from_checkpoint=checkpoint)
    save_final(trainer, processor, final)
    return final


def _sft_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    from mmrl.trainers.sft import MultimodalSFTTrainer

    return MultimodalSFTTrainer(
        model,
        processing_class=processor,
        args=_sft_arguments(config, out),
        train_dataset=dataset,
        eval_dataset=dataset,  # unread: `RecordedEvaluations` has its own, but transformers wants one
        budget=config.vision,
        space=config.space,
    )


def _grpo_trainer(config: TrainConfig, out: Path, model: Any, processor: Any, dataset: Any) -> Any:
    from mmrl.grpo.trainer import MultimodalGRPOTrainer

    return MultimodalGRPOTrainer(
        model,
        processing_class=processor,
        rewards=Suite(config.rewards, judges=config.judges),
        args=_grpo_arguments(config, out),
        train_dataset=dataset,
        eval_dataset=dataset,  # unread, as above
        budget=config.vision,
        space=config.space,
        advantages=config.advantages.name,
        advantage_options=config.advantages.options,
        shared_prefix=config.rollout.shared_prefix,
        **method_of(config),
    )


def method_of(config: TrainConfig) -> dict[str, Any]:
    """How rollouts are drawn and weighed, as the trainer's keywords."""
    rollout = config.rollout
    return {
        "temperature": rollout.temperature,
        "refills": rollout.refills,
        "inject": rollout.inject,
        "importance_cap": rollout.importance_cap,
        "credit": config.advantages.tokens,
    }


def _sft_arguments(config: TrainConfig, out: Path) -> Any:
    from trl.trainer.sft_config import SFTConfig

    return _arguments(SFTConfig, "sft", config.sft or {}, output_dir=str(out), seed=config.seed)


def _grpo_arguments(config: TrainConfig, out: Path) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    single = {"num_generations_eval": 1}  # else TRL wants whole groups in the batches of an evaluation
    block = {**single, **(config.grpo or {})}
    return _arguments(GRPOConfig, "grpo", block, output_dir=str(out), seed=config.seed)


STAGES = {"sft": _sft_arguments, "grpo": _grpo_arguments}


def arguments_of(config: TrainConfig, stage: str) -> Any:
    """TRL's arguments of the stage `sft` or `grpo`."""
    return STAGES[stage](config, Path(config.output))


def _arguments(schema: Any, block: str, given: dict[str, Any], **ours: Any) -> Any:
    """TRL's own config from the block of that name; unknown keys name the nearest known one."""
    known = schema.__dataclass_fields__
    hints, typed = get_type_hints(schema), dict(given)
    for key, value in given.items():
        if key in ours:
            raise InputError(f"{block}.{key} is set at the top level of the config, not in the {block} block")
        if key not in known:
            raise InputError(f"unknown key {block}.{key} (value {value!r}); {nearest(key, known)}")
        typed[key] = _typed(hints[key], value, f"{block}.{key}")
    try:
        return schema(**{"report_to": "none", **typed, **ours})
    except ValueError as error:
        raise InputError(f"{block}: {error}") from None


def _typed(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type that TRL declares, which it does not check: a quoted number is a number."""
    try:
        made = TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}: {error.errors()[0]['msg']} (got {value!r})") from None
    return made if isinstance(value, str) or isinstance(made, int) else value


def save_final(trainer: Any, processor: Any, final: Path) -> None:
    """Write the model (adapters merged) and the processor to `final`, whole or not at all."""
    from mmrl.trainers.checkpoints import in_one_piece

    staging = final.with_name(".final.writing")
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        with in_one_piece(model):
            merged = model.merge_and_unload()
            if trainer.accelerator.is_main_process:
                merged.save_pretrained(staging)
    else:
        trainer.save_model(str(staging))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle: nothing anyone should load
        processor.save_pretrained(staging)
        os.replace(staging, final)
    trainer.accelerator.wait_for_everyone()
