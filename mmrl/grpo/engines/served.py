"""Completions by vLLM, which gets the policy's weights before every generation. One process speaks with the engine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object

from mmrl.engine.asking import Answer, Drawing, Question, runs_of
from mmrl.engine.features import FeatureWriter
from mmrl.engine.inside import InsideEngine
from mmrl.engine.remote import VllmEngine
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.engines.agreement import Agreement
from mmrl.grpo.engines.base import Completions, Keys
from mmrl.model.encoding import Encoded
from mmrl.trainers.sharding import in_one_piece

PROBE = 32  # tokens of a completion whose log-probs are compared


class Begun:
    """Completions that are being drawn for the rows of this process."""

    def __init__(
        self, rollouts: ServedRollouts, counts: Sequence[int], answers: Future[list[list[Answer]]] | None
    ) -> None:
        self._rollouts, self._counts, self._answers = rollouts, counts, answers
        self._step = rollouts.weights

    def wait(self) -> None:
        """Wait until all are drawn; an error is kept for `result`."""
        if self._answers is not None:
            self._answers.exception()

    def result(self) -> Completions:
        """The completions. All processes must call it."""
        answers = self._answers
        everyone = self._rollouts.on_main(lambda: answers.result() if answers is not None else [])
        rank = self._rollouts.trainer.accelerator.process_index
        first = sum(self._counts[:rank])
        own = [answer for group in everyone[first : first + self._counts[rank]] for answer in group]
        return Completions([answer.ids for answer in own], [answer.logprobs for answer in own], self._step)


class ServedRollouts:
    """Draws completions with `engine`, which the first process alone has. `banned` tokens are never drawn."""

    def __init__(
        self,
        trainer: Any,
        engine: Callable[[], VllmEngine | InsideEngine],
        writer: FeatureWriter,
        banned: Sequence[int],
        every: int,
    ) -> None:
        self.trainer, self.banned, self.writer = trainer, banned, writer
        self.engine = engine() if trainer.accelerator.is_main_process else None
        self.agreement = Agreement(trainer, self.probed, banned, every)
        self.apart = trainer.accelerator.num_processes == 1  # the first process asks for all of them
        self.weights = -1  # the optimizer step of the weights that the engine has
        self._pool = ThreadPoolExecutor(2, "engine")  # what is drawn ahead, and what is needed now
        self._begun: list[Begun] = []

    def completions(
        self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        """A completion for each row of `batch`."""
        self.push()
        self.agreement(batch.rows)
        start = time.perf_counter()
        drawn = self.begun(batch.rows, keys, temperature, length=length).result()
        self.log("rollout_seconds", time.perf_counter() - start)
        return drawn

    def push(self) -> None:
        """Give the engine the weights of this step, unless it has them."""
        trainer, step, start = self.trainer, self.trainer.state.global_step, time.perf_counter()
        if self.weights == step:
            return
        self.wait()
        policy = trainer.accelerator.unwrap_model(trainer.model)
        with in_one_piece(policy):
            self.on_main(lambda: self.engine.push(policy, str(step)) if self.engine else None)
        self.weights = step
        self.log("push_seconds", time.perf_counter() - start)

    def begun(self, rows: Sequence[Encoded], keys: Keys, temperature: Any, *, length: int | None = None) -> Begun:
        """Begin to draw completions for `rows`, under the weights that the engine has.

        A schedule's list of temperatures has one value: another one is refused before the training.
        """
        trainer = self.trainer
        value = float(temperature[0] if isinstance(temperature, list) else temperature)
        limits = {"top_p": trainer.top_p, "top_k": trainer.top_k or 0, "min_p": trainer.min_p or 0.0}
        drawing = self._drawing(value, length or trainer.max_completion_length, **limits)
        self._begun.append(self._asked(rows, keys, drawing))
        return self._begun[-1]

    def wait(self) -> None:
        """Wait for what is being drawn: new weights must not come between."""
        for begun in self._begun:
            begun.wait()
        self._begun = []

    def close(self) -> None:
        """End the engine."""
        if self.engine is not None:
            self.engine.close()
        self._pool.shutdown(cancel_futures=True)

    def save(self, checkpoint: Path) -> None:
        """Nothing to write: a resumed run draws again."""

    def restore(self, checkpoint: Path) -> None:
        """Nothing to read."""

    def probed(self, rows: Sequence[Encoded]) -> Completions:
        """One short completion for each of `rows`, without limits of the sampling: their log-probs are compared."""
        keys = [("probe", self.trainer.state.global_step, place) for place in range(len(rows))]
        length = min(self.trainer.max_completion_length, PROBE)
        return self._asked(rows, keys, self._drawing(self.trainer.temperature, length)).result()

    def on_main(self, work: Callable[[], Any]) -> Any:
        """What `work` returns in the first process, or its error, in all of them."""
        outcome: list[Any] = [None]
        if self.trainer.accelerator.is_main_process:
            try:
                outcome = [(work(), None)]
            except Exception as error:  # the other processes wait for the outcome
                outcome = [(None, error)]
        value, error = broadcast_object_list(outcome)[0]
        if error is not None:
            raise error
        return value

    def log(self, name: str, value: float) -> None:
        """Add a value to the metrics of the step."""
        if self.trainer.model.training:
            self.trainer._metrics["train"][f"engine/{name}"].append(value)

    def _asked(self, rows: Sequence[Encoded], keys: Keys, drawing: Drawing) -> Begun:
        everyone: list[list[Question]] = gather_object([self._questions(rows, keys)])
        flat, answers = [question for own in everyone for question in own], None
        if self.engine is not None:
            answers = self._pool.submit(self.engine.completions, flat, drawing)
        return Begun(self, [len(own) for own in everyone], answers)

    def _questions(self, rows: Sequence[Encoded], keys: Keys) -> list[Question]:
        """One question for the rollouts of a prompt that this process has, with the random numbers of the first."""
        features = {id(row): self.writer(row) for row in {id(row): row for row in rows}.values()}
        groups = runs_of([(id(row), *key[:4], *key[5:]) for row, key in zip(rows, keys, strict=True)])
        return [
            Question(rows[start].input_ids, features[id(rows[start])], n=count, seed=_seed(keys[start]))
            for start, count in groups
        ]

    def _drawing(self, temperature: float, length: int, **limits: Any) -> Drawing:
        return Drawing(length, temperature, ends=tuple(self.trainer.eos_token_ids), banned=tuple(self.banned), **limits)


def _seed(key: Sequence[int | str]) -> int:
    """A seed of 31 bits for a key of random numbers."""
    return int.from_bytes(hashlib.sha256(repr(tuple(key)).encode()).digest()[:4], "little") >> 1
