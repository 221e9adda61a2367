"""Rollouts with tools in training: the turns of a batch, drawn by the trainer's engine (`mmrl.tools.turns`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmrl.core.vision import CoordinateSpace
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.engines.base import Completions, Keys, RolloutEngine
from mmrl.model.encoding import Encoded
from mmrl.model.sampling import seed_of
from mmrl.tools.calls import KINDS
from mmrl.tools.chat import ToolChat
from mmrl.tools.form import with_tools
from mmrl.tools.scene import Scene
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played, scene_of
from rewards.prompt_form import PromptForm


class ToolTurns:
    """Draws rollouts of several turns. `form` is what prompts are asked in, the tools among it."""

    def __init__(
        self, trainer: Any, engine: RolloutEngine, settings: ToolSettings, form: PromptForm, space: CoordinateSpace
    ) -> None:
        self.trainer, self.engine, self.settings, self.space = trainer, engine, settings, space
        self.toolbox = Toolbox(settings.tools, settings.tool_seconds, settings.search_in)
        self.form = with_tools(form, trainer.processing_class, settings)
        policy = trainer.accelerator.unwrap_model(trainer.model)
        self.chat = ToolChat(policy, trainer.processing_class, trainer.eos_token_ids, self.form)

    def completions(self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any) -> Completions:
        """A rollout for each row of `batch`: all its turns, and the results between them.

        Sets `batch.rows` to the prompts with all media of their rollouts, `batch.own` and `batch.turns`.
        """
        rollouts = [
            Conversation(row, self._scene(sample, row, key), row)
            for sample, row, key in zip(batch.samples, batch.rows, keys, strict=True)
        ]
        steps: list[int] = []

        def draw(numbers: Sequence[int], turn: int, length: int) -> Drawn:
            part, own = batch, keys
            if turn:
                part = RolloutBatch(rows=[rollouts[number].row for number in numbers])
                own = [(*keys[number], "turn", turn) for number in numbers]
            drawn = self.engine.completions(part, own, 1 if turn else group, temperature, length=length)
            steps.append(drawn.step)
            return Drawn(drawn.ids, drawn.logprobs)

        turns, longest = self.settings.max_turns, self.trainer.max_completion_length
        played(
            rollouts, draw, self.toolbox, self.chat,
            max_turns=turns, longest=longest, apart=self.engine.apart, anyone=self._anyone,
        )  # fmt: skip
        batch.rows = [rollout.scored for rollout in rollouts]
        batch.own = [rollout.own for rollout in rollouts]
        batch.turns = [rollout.turns for rollout in rollouts]
        self._log(batch)
        return Completions([rollout.ids for rollout in rollouts], [rollout.logprobs for rollout in rollouts], steps[0])

    def close(self) -> None:
        """End the processes of the tools."""
        self.toolbox.close()

    def _scene(self, sample: Mapping[str, Any], row: Encoded, key: Sequence[int | str]) -> Scene:
        known = {"answer": sample["answer"], "seed": seed_of(*key[:4]), "index": self.toolbox.index}
        return scene_of(sample["media"], row, space=self.space, **known)

    def _anyone(self, here: bool) -> bool:
        return bool(gathered(torch.tensor([here], device=self.trainer.accelerator.device)).any())

    def _log(self, batch: RolloutBatch) -> None:
        """Turns and calls of a rollout, and the share of each kind among the calls, of all processes."""
        kinds = Counter(outcome.kind for turns in batch.turns for turn in turns for outcome in turn.outcomes)
        counts = [len(batch.turns), sum(map(len, batch.turns)), *(kinds[kind] for kind in KINDS)]
        device = self.trainer.accelerator.device
        rollouts, turns, *outcomes = gathered(torch.tensor([counts], device=device)).sum(dim=0).tolist()
        metrics = self.trainer._metrics["train" if self.trainer.model.training else "eval"]
        metrics["tools/turns"].append(turns / rollouts)
        metrics["tools/calls"].append(sum(outcomes) / rollouts)
        for kind, count in zip(KINDS, outcomes, strict=True):
            if count:
                metrics[f"tools/{kind}"].append(count / sum(outcomes))
