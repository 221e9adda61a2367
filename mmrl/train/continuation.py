"""A run that goes on: what of its config may have changed since it began, and what is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eval.distributed import Processes
from mmrl.core.config import InputError, merge, read_yaml, shown
from mmrl.core.files import write_atomic
from mmrl.train.config import FOLDERS, TrainConfig, arguments_of, stages_of
from mmrl.trainers.checkpoints import latest_checkpoint

logger = logging.getLogger(__name__)

LONGER = ("max_steps", "num_train_epochs")
# Keys of a block that change what is written and not what is learned.
HARMLESS = re.compile(
    r"(save|logging|hub|trackio)_\w+|log_level\w*|report_to|run_name|project|push_to_hub|disable_tqdm"
)
ENGINE = "rollout.vllm"  # where the engine is does not decide what is learned
NAMED = 3  # changed keys in a message


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys, with dots into blocks, whose values differ: (then, now), None where there was none.

    >>> changes({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}, "b": 4})
    {'a.y': (2, 3), 'b': (None, 4)}
    """
    old, new = _flat(before), _flat(now)
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def check_change(config: TrainConfig, out: Path) -> set[str]:
    """The stages whose end the config moves; InputError for a change that would make another run of the one in `out`.

    A run may become longer, and may write other checkpoints and logs.
    """
    place = out / "config.yaml"
    if not place.exists():
        return set()
    defaults = TrainConfig(model="", data="", output="").model_dump(mode="json")  # of keys that the run did not know
    before, now = merge(defaults, read_yaml(place)), config.model_dump(mode="json")
    changed = {key: values for key, values in changes(before, now).items() if not key.startswith(ENGINE)}
    refused = {key: values for key, values in changed.items() if not _may_change(key)}
    if refused:
        named = [f"{key}: {shown(then)} then, {shown(is_)} now" for key, (then, is_) in list(refused.items())[:NAMED]]
        more = f" and {len(refused) - NAMED} more keys" if len(refused) > NAMED else ""
        raise InputError(
            f"{out} holds a run with another config ({'; '.join(named)}{more}); choose another output. "
            "A run that is there takes max_steps, num_train_epochs, save_*, logging_* and report_to"
        )
    longer = {key.partition(".")[0] for key in changed if key.endswith(LONGER)}
    for stage in sorted(longer):
        _check_longer(config, out, stage)
    return longer


def remember(config: TrainConfig, out: Path) -> None:
    """Write `config` to `out/config.yaml`; called once a trainer could be built from it."""
    write_atomic(out / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=True))


def set_aside(final: Path, checkpoint: str | None) -> None:
    """Move the model of the shorter run to `final-step-00012`: the longer run will make another one."""
    if checkpoint is None or not final.exists() or not Processes().main:
        return
    place = final.with_name(f"final-step-{_step(checkpoint):05d}")
    final.rename(place)
    logger.warning("the model of step %d is now in %s", _step(checkpoint), place)


def _check_longer(config: TrainConfig, out: Path, stage: str) -> None:
    """Refuse an end that the stage has passed, or cannot go on to."""
    folder = out / FOLDERS[stage]
    if not (folder / "metrics.jsonl").exists():
        return  # it has not begun
    stages = stages_of(config)
    for after in stages[stages.index(stage) + 1 :] if stage != "reward" else ():
        if latest_checkpoint(out / FOLDERS[after]):
            raise InputError(
                f"the {stage} stage of {out} cannot become longer: {after} began from it; choose another output"
            )
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f"{folder} has no checkpoint to go on from (save_strategy: no); choose another output")
    args = arguments_of(config, stage)
    step, cycle = _step(checkpoint), 1
    if stage == "grpo":
        cycle = max(args.steps_per_generation // args.gradient_accumulation_steps, 1) * args.num_iterations
    if 0 < args.max_steps < step:
        raise InputError(f"{stage}.max_steps={args.max_steps} is passed: there is {checkpoint}; choose another output")
    if step % cycle:
        raise InputError(
            f"{checkpoint} lies within {cycle} optimizer steps that share rollouts, which checkpoints do not hold: "
            "the run cannot become longer; choose another output"
        )
    if args.lr_scheduler_type not in ("constant", "constant_with_warmup"):
        name = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        logger.warning("from step %d on the learning rate follows the %s schedule of the longer run", step, name)


def _may_change(key: str) -> bool:
    block, _, rest = key.partition(".")
    return block in FOLDERS and (rest in LONGER or HARMLESS.fullmatch(rest.partition(".")[0]) is not None)


def _step(checkpoint: str) -> int:
    return int(checkpoint.rpartition("-")[2])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        below = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        flat |= {name: each for name, each in below.items() if each is not None}
    return flat
