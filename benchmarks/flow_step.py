"""One step of Flow-GRPO on a tiny editor: mmrl against its bare forwards and backwards, and against a plain loop.

    python -m benchmarks.flow_step [--quick] [--json FILE] [--parts]

All sides make the same number of pictures in as many steps and learn from every step. The bare side has the network's
forwards and backwards alone, with no reward. The plain loop is that of the released code: it encodes the source of each
picture, and makes a forward and a backward for each step in turn. Rates are steps a second, on one thread. With
`--parts`, what the parts of a step take instead.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.rounds import compared, parser_of, report
from data_engine.schema import Sample
from data_engine.sources.editing.edit_pairs import edits
from mmrl.core.media.pictures import as_media
from mmrl.flow.arguments import FlowArguments
from mmrl.flow.policy_gradient import clipped_loss
from mmrl.flow.trainer import FlowTrainer
from mmrl.model.flow.kontext import Condition, KontextPolicy
from mmrl.model.flow.pictures import opened
from mmrl.model.flow.process import at, log_density, step
from mmrl.model.flow.sampling import Trajectory
from mmrl.model.tiny_editors import tiny_kontext
from mmrl.trainers.dataset import as_dataset
from rewards import Rollout, Suite, get


@dataclass(frozen=True, slots=True)
class Case:
    """Prompts, pictures of each, steps from noise to a picture."""

    prompts: int
    group: int = 12
    steps: int = 8

    @property
    def name(self) -> str:
        """The name of the case in the table."""
        return f"{self.prompts} prompts of {self.group} pictures"


LEVEL = 0.7  # of noise
QUICK, FULL = [Case(8)], [Case(1), Case(2), Case(8)]


def main() -> None:
    """Run the cases and print the tables."""
    parser = parser_of(__doc__, "one case, fewer rounds")
    parser.add_argument("--parts", action="store_true", help="the seconds of each part of a step of the largest case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.parts:
        with tempfile.TemporaryDirectory() as out:
            print("\n".join(f"{name}: {seconds:.3f} s" for name, seconds in World(FULL[-1], out).parts().items()))
        return
    rows = []
    for case in QUICK if arguments.quick else FULL:
        with tempfile.TemporaryDirectory() as out:
            world = World(case, out)
            for name, other in (("bare", world.bare), ("plain loop", world.plain)):
                rounds = 3 if arguments.quick else 5
                rows.append(compared(f"{case.name}, {name}", world.ours, other, 1, rounds, unit="steps/s"))
    report(rows, arguments.json, peer="the other", number=".3g")


class World:
    """A tiny editor, its trainer, and prompts."""

    def __init__(self, case: Case, out: str) -> None:
        self.case = case
        self.samples = [
            replace(sample, id=str(number))
            for number, sample in enumerate(edits(n=case.prompts, side=16, changes=["red", "invert"]))
        ]
        self.texts = [sample.answer["instruction"] for sample in self.samples]
        self.policy = KontextPolicy(tiny_kontext(self.texts, heads=4, text_tokens=10, light=12))
        options = {"anchor": 0}
        args = FlowArguments(
            out, use_cpu=True, report_to="none", algorithm="flow_grpo", options=options, save_pictures_steps=0,
            num_generations=case.group, sampling_steps=case.steps, per_device_train_batch_size=case.prompts,
        )  # fmt: skip
        self.rows: list[Any] = list(as_dataset(self.samples))
        self.trainer = FlowTrainer(
            self.policy, rewards=Suite.of("edit_match"), args=args, train_dataset=as_dataset(self.samples),
            advantages="flow_grpo",
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.policy.transformer.parameters(), lr=0.0)

    def ours(self) -> None:
        """The trainer's own step."""
        (batch,) = self.trainer.rollouts([{"rows": self.rows}])
        self.trainer.compute_loss(self.trainer.model, batch).backward()
        self._moved()

    def parts(self) -> dict[str, float]:
        """The processor seconds of each part of a step, the least of three, and of what a plain loop does instead."""
        group, rollouts = self.case.group, self.trainer.rollouts
        condition = self._condition(self.samples).repeated(group)
        every = [sample for sample in self.samples for _ in range(group)]
        rows = [row for row in self.rows for _ in range(group)]
        (batch,) = rollouts([{"rows": self.rows}])
        drawn, advantage_N = batch["drawn"], batch["advantage_TN"][0]
        shots = [[picture] for picture in self.policy.pictures(drawn.clean, condition)]
        parts: dict[str, Callable[[], object]] = {
            "sources, of each prompt": lambda: self._condition(self.samples),
            "sources, of each picture": lambda: self._condition(every),
            "drawing": lambda: rollouts.drawn(self.rows),
            "decoding": lambda: self.policy.pictures(drawn.clean, condition),
            "rewards": lambda: rollouts._scored(rows, shots),
            "loss, all steps in one forward": lambda: self.trainer.compute_loss(self.trainer.model, batch).backward(),
            "loss, step by step": lambda: self._learned(drawn.trajectory, condition, advantage_N),
        }
        return {name: min(_seconds(part) for _ in range(3)) for name, part in parts.items()}

    def bare(self) -> None:
        """Forwards of the steps, one forward and backward of all of them."""
        condition = self._condition(self.samples).repeated(self.case.group)
        latent = self.policy.noise(condition, None)
        times = self.policy.times(self.case.steps, condition)[:-1]
        with torch.no_grad():
            for moment in times:
                self.policy.velocity(latent, at(moment, latent), condition)
        every = torch.cat([at(moment, latent) for moment in times])
        tiled = latent.repeat(len(times), 1, 1)
        self.policy.velocity(tiled, every, condition.tiled(len(times))).square().mean().backward()
        self._moved()

    def plain(self) -> None:
        """The loop of the released code."""
        every = [sample for sample in self.samples for _ in range(self.case.group)]
        condition = self._condition(every)
        latents, drawn = [self.policy.noise(condition, None)], []
        times = self.policy.times(self.case.steps, condition)
        moments = list(itertools.pairwise(times))
        with torch.no_grad():
            for moment in moments:
                mean, std = self._step(latents[-1], moment, condition)
                latents.append(mean + std * torch.randn_like(mean))
                drawn.append(log_density(latents[-1], mean, std))
        made = self.policy.pictures(latents[-1], condition)
        path = Trajectory(times, latents, torch.stack(drawn), [LEVEL] * len(moments))
        self._learned(path, condition, self._advantages(every, made))
        self._moved()

    def _learned(self, path: Trajectory, condition: Condition, advantage_N: Tensor) -> None:
        """A forward and a backward for each step in turn."""
        moments = list(itertools.pairwise(path.times))
        for place, moment in enumerate(moments):
            mean, std = self._step(path.latents[place], moment, condition)
            log_prob_N = log_density(path.latents[place + 1], mean, std)
            (clipped_loss(log_prob_N, path.drawn_TN[place], advantage_N) / len(moments)).backward()

    def _step(self, latent: Tensor, moment: tuple[float, float], condition: Condition) -> tuple[Tensor, float]:
        return step(latent, self.policy.velocity(latent, at(moment[0], latent), condition), *moment, level=LEVEL)

    def _condition(self, samples: list[Sample]) -> Condition:
        texts, sources = zip(*((sample.answer["instruction"], sample.media[0]) for sample in samples), strict=True)
        return self.policy.condition(texts, opened(sources))

    def _advantages(self, samples: list[Sample], made: list[Any]) -> Tensor:
        rollouts = [
            Rollout("", media=sample.media[:1], gold_media=sample.media[1:], made=[as_media(picture)])
            for sample, picture in zip(samples, made, strict=True)
        ]
        scores = torch.tensor([verdict.score or 0.0 for verdict in get("edit_match")(rollouts)])
        groups = scores.view(-1, self.case.group)
        return ((groups - groups.mean(dim=1, keepdim=True)) / (scores.std() + 1e-4)).flatten()

    def _moved(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


def _seconds(part: Callable[[], object]) -> float:
    start = time.process_time()
    part()
    return time.process_time() - start


if __name__ == "__main__":
    main()
