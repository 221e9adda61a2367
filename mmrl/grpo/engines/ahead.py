"""Overlap: the engine answers the prompts of the next generation while the trainer learns from this one.

Those answers come from weights that are one generation old. Importance weights, truncated, correct for it
(`rollout.importance_cap`), and every rollout file says in `drawn_at` which weights drew it. What is being drawn when a
checkpoint is written belongs to it: a resumed run learns from the same answers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.core.files import write_atomic
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.engines.base import Completions, Keys
from mmrl.grpo.engines.served import Begun, ServedRollouts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """Completions that were drawn already."""

    completions: Completions

    def result(self) -> Completions:
        """The completions."""
        return self.completions


@dataclass(frozen=True, slots=True)
class Pending:
    """What is being drawn for the generation at `step`: the ids of the samples of its rows, and their completions."""

    step: int
    samples: list[str]
    drawn: Begun | Kept


class AheadRollouts:
    """`served`, asked one generation ahead."""

    apart = False

    def __init__(self, trainer: Any, served: ServedRollouts) -> None:
        self.trainer, self.served = trainer, served
        self.pending: Pending | None = None

    def completions(
        self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        """A completion for each row of `batch`, drawn before if they were foreseen; then the next are begun."""
        if not self.trainer.model.training:
            return self.served.completions(batch, keys, group, temperature, length=length)
        pending, foreseen = self.pending, False
        if pending is not None and pending.step == self.trainer.state.global_step:
            self.pending = None
            foreseen = pending.samples == [sample["id"] for sample in batch.samples]
            if not foreseen:  # it costs time, nothing else
                logger.warning("the prompts drawn ahead for step %d are not those of the step", pending.step)
        if foreseen and pending is not None:
            drawn = pending.drawn.result()
        else:
            drawn = self.served.completions(batch, keys, group, temperature)
        if self.pending is None:
            self._look_ahead(group, temperature)
        return drawn

    def push(self) -> None:
        """Give the engine the weights of this step."""
        self.served.push()

    def close(self) -> None:
        """End the engine."""
        self.served.close()

    def save(self, checkpoint: Path) -> None:
        """Write what is being drawn into a checkpoint directory, once it is drawn. All processes must call it."""
        if self.pending is None:
            return
        pending, completions = self.pending, self.pending.drawn.result()
        self.pending = Pending(pending.step, pending.samples, Kept(completions))
        content = {"samples": pending.samples, **completions._asdict()} | {"step": pending.step}
        content["drawn_at"] = completions.step
        write_atomic(self._place(checkpoint), json.dumps(content))

    def restore(self, checkpoint: Path) -> None:
        """Read what a checkpoint directory holds."""
        place = self._place(checkpoint)
        if place.exists():
            content: Mapping[str, Any] = json.loads(place.read_text())
            kept = Kept(Completions(content["ids"], content["logprobs"], content["drawn_at"]))
            self.pending = Pending(content["step"], content["samples"], kept)

    def _place(self, checkpoint: Path) -> Path:
        return checkpoint / f"ahead_{self.trainer.accelerator.process_index}.json"

    def _look_ahead(self, group: int, temperature: Any) -> None:
        """Begin to draw for the next generation, if there is one, with the weights of this step."""
        trainer, args = self.trainer, self.trainer.args
        cycle = args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations
        step = trainer.state.global_step + cycle
        if step >= trainer.state.max_steps:
            return
        places = trainer.order.generation(step // cycle, args.generation_batch_size)
        size = len(places) // trainer.accelerator.num_processes
        own = places[trainer.accelerator.process_index * size :][:size]
        batch = trainer.rollout_step.begun([trainer.train_dataset[place] for place in own])
        trainer.generation.remember(batch)
        keys = trainer.generation.sampling_keys(batch, group, step=step)
        self.served.push()
        self.served.agreement(batch.rows)
        drawn = self.served.begun(batch.rows, keys, temperature)
        self.pending = Pending(step, [sample["id"] for sample in batch.samples], drawn)
