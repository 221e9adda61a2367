"""A trainer's run: from the newest checkpoint if there is one, with what every run writes and watches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.train.config import TrainConfig
from mmrl.train.continuation import remember, set_aside
from mmrl.trainers.callbacks import MetricsFile, ProgressLine
from mmrl.trainers.checkpoints import check_resumable, latest_checkpoint
from mmrl.trainers.monitor import CollapseWarnings

logger = logging.getLogger(__name__)


def fitted(trainer: Any, config: TrainConfig, out: Path, *, longer: bool) -> None:
    """Train the stage that writes to `out`; one that is to become `longer` first sets its final model aside."""
    from transformers import PrinterCallback, ProgressCallback

    for talkative in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talkative)
    for callback in (MetricsFile(), ProgressLine(), CollapseWarnings(config.watch)):
        trainer.add_callback(callback)
    checkpoint = latest_checkpoint(out)
    if checkpoint:
        check_resumable(Path(checkpoint), trainer.accelerator.num_processes)
    if longer:
        set_aside(out / "final", checkpoint)
    remember(config, Path(config.output))
    if checkpoint and trainer.accelerator.is_main_process:
        logger.warning("resuming from %s", checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint)
    warn_of_silence(trainer.state.log_history, out)


def warn_of_silence(history: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Warn after a training in which no reward ever had a verdict: its weights are those that it began with."""
    shares = [line["steps_without_verdict"] for line in history if "steps_without_verdict" in line]
    if shares and min(shares) == 1:
        logger.warning("nothing was learned: in no step had a reward a verdict; mmrl view %s shows the reasons", out)
