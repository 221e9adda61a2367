"""Signs that a training goes wrong, read from its metrics: each is a warning with a threshold of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmrl.core.config import Config
from mmrl.trainers.callbacks import metrics_file, read_metrics

logger = logging.getLogger(__name__)

Share = Annotated[float, Field(ge=0, le=1)]
DEAD, CLIPPED, ENTROPY = "frac_reward_zero_std", "completions/clipped_ratio", "entropy"
COLLAPSED = {"pictures/constant": "show one colour", "pictures/saturated": "are nearly all black or full colours"}
DISTANCE = "pictures/distance_to_real"
LENGTH, REWARD, HELD_OUT = "completions/mean_length", "reward", "eval_reward"


class Watch(Config):
    """Thresholds of the warnings, for means over the last `window` logged steps; each sign warns once per window."""

    window: Annotated[int, Field(ge=1)] = 20
    dead_groups: Share = 0.9
    clipped: Share = 0.5
    entropy: Annotated[float, Field(ge=0)] = 0.01
    length_drift: Annotated[float, Field(gt=1)] = 3.0
    hacking: Annotated[float, Field(gt=0)] = 0.05
    distance_drift: Annotated[float, Field(gt=1)] = 1.5
    collapsed: Share = 0.5


def signs(logged: Sequence[Mapping[str, Any]], watch: Watch) -> dict[str, str]:
    """The signs of collapse in the logged steps of a run, oldest first: the name of each sign with a description.

    `dead_groups`: hardly any group has a signal; `clipped`: completions are cut at the limit; `entropy`: the policy has
    stopped exploring; `length_drift`: completions are that many times longer or shorter than in the first window;
    `collapsed`: pictures that were made show nothing; `hacking`: the reward rose by at least that much while the
    held-out reward fell by as much; `unreal`: it rose as much while pictures went `distance_drift` times as far from
    real ones.
    """
    keys = (DEAD, CLIPPED, ENTROPY, LENGTH, *COLLAPSED, DISTANCE, REWARD)
    now = {key: _mean(logged[-watch.window :], key) for key in keys}
    first, near, low = (_mean(logged[: watch.window], key) for key in (LENGTH, DISTANCE, REWARD))
    warnings: dict[str, str] = {}
    if len(logged) < watch.window:
        return warnings
    if now[DEAD] > watch.dead_groups:
        warnings["dead_groups"] = f"{now[DEAD]:.0%} of the groups have no signal: every rollout is rewarded alike"
    if now[CLIPPED] > watch.clipped:
        warnings["clipped"] = f"{now[CLIPPED]:.0%} of the completions are cut at the limit: raise max_completion_length"
    if now[ENTROPY] < watch.entropy:
        warnings["entropy"] = f"the entropy fell to {now[ENTROPY]:.4f}: the policy hardly explores"
    if first > 0 and not 1 / watch.length_drift <= now[LENGTH] / first <= watch.length_drift:
        warnings["length_drift"] = f"completions went from {first:.0f} to {now[LENGTH]:.0f} tokens"
    empty = [f"{now[key]:.0%} {told}" for key, told in COLLAPSED.items() if now[key] > watch.collapsed]
    if empty:
        warnings["collapsed"] = f"of the pictures {' and '.join(empty)}"
    if now[DISTANCE] >= watch.distance_drift * near > 0 and now[REWARD] - low >= watch.hacking:
        warnings["unreal"] = (
            f"the reward rose by {now[REWARD] - low:.3f} while the distance of pictures to real ones went from "
            f"{near:.3f} to {now[DISTANCE]:.3f}"
        )
    held_out = [place for place, line in enumerate(logged) if HELD_OUT in line]
    if len(held_out) > 1:
        before, after = (logged[: held_out[0] + 1][-watch.window :], logged[: held_out[-1] + 1][-watch.window :])
        rise = _mean(after, REWARD) - _mean(before, REWARD)
        fall = logged[held_out[0]][HELD_OUT] - logged[held_out[-1]][HELD_OUT]
        if rise >= watch.hacking and fall >= watch.hacking:
            warnings["hacking"] = f"the reward rose by {rise:.3f} while the held-out reward fell by {fall:.3f}"
    return warnings


class CollapseWarnings(TrainerCallback):
    """Logs `signs` during training; a resumed run first reads the earlier metrics."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.logged: list[dict[str, Any]] = []
        self.warned: dict[str, int] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the metrics up to the checkpoint."""
        self.logged = [line for line in read_metrics(metrics_file(args)) if line["step"] <= state.global_step]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the last window."""
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        self.logged.append(dict(logs))
        for sign, message in signs(self.logged, self.watch).items():
            if len(self.logged) - self.warned.get(sign, -self.watch.window) >= self.watch.window:
                self.warned[sign] = len(self.logged)
                logger.warning("step %d: %s (watch.%s)", state.global_step, message, sign)


class SilentSteps(TrainerCallback):
    """Skips the optimizer if no reward had a verdict: otherwise momentum would move the weights.

    ZeRO makes its steps itself: there the gradient is zero and momentum acts.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the gradients; the optimizer skips parameters without one."""
        if self.trainer.silent:
            step = state.global_step + 1  # the one in progress
            logger.warning("step %d: no reward had a verdict on any rollout; the step is skipped", step)
            for parameter in self.trainer.model.parameters():
                parameter.grad = None


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of the finite values of `key`, or NaN, which is neither above nor below a threshold."""
    values = [line[key] for line in lines if isinstance(line.get(key), float | int) and math.isfinite(line[key])]
    return fmean(values) if values else math.nan
