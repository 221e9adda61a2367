"""Answers of several turns: the model calls tools while it answers, as in training (`mmrl.tools.turns`)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Generation
from mmrl.core.vision import CoordinateSpace
from mmrl.model.sampling import seed_of
from mmrl.tools.chat import ToolChat
from mmrl.tools.records import recorded
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played, scene_of


class ToolGenerator:
    """Answers draws with `plain`, whose form has the tools. A draw without calls is answered as without tools.

    The pictures that tools return are written to the folder of the run, `out`.
    """

    def __init__(self, plain: LocalGenerator, settings: ToolSettings, space: CoordinateSpace, out: Path) -> None:
        self.plain, self.settings, self.space, self.out = plain, settings, space, out
        self.toolbox = Toolbox(settings.tools, settings.tool_seconds, settings.search_in)
        weakref.finalize(self, self.toolbox.close)
        self.chat = ToolChat(plain.model, plain.processor, plain.stops, plain.form)

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, with all its turns."""
        sampling = self.plain.sampling
        once = {draw.sample.id: self.plain.encoded(draw.sample) for draw in draws}
        answers = []
        for draw in draws:
            sample, prompt = draw.sample, once[draw.sample.id]
            media, seed = () if self.plain.blind else sample.media, seed_of(sampling.seed, sample.id)
            known = {"answer": sample.answer, "seed": seed, "index": self.toolbox.index}
            scene = scene_of(media, prompt, space=self.space, **known)
            answers.append(Conversation(prompt, scene, prompt))

        def speak(numbers: Sequence[int], turn: int, length: int) -> Drawn:
            later = ("turn", turn) if turn else ()
            keys = [(sampling.seed, draws[number].sample.id, draws[number].number, *later) for number in numbers]
            rows = [answers[number].row for number in numbers]
            ids = self.plain.continued(rows, length, temperature=temperature, keys=keys)
            return Drawn(ids, [[0.0] * len(one) for one in ids])

        temperature = sampling.temperature if sampling.do_sample else 0.0
        turns, longest = self.settings.max_turns, sampling.max_new_tokens
        played(answers, speak, self.toolbox, self.chat, max_turns=turns, longest=longest)
        return [self._generation(draw, answer) for draw, answer in zip(draws, answers, strict=True)]

    def cost(self, sample: Sample) -> int:
        """The cost of the first turn."""
        return self.plain.cost(sample)

    def _generation(self, draw: Draw, answer: Conversation) -> Generation:
        calls = sum(len(turn.outcomes) for turn in answer.turns)
        return Generation(
            answer.text,
            sum(answer.own),
            not self.plain.stopped(answer.ids),
            self.plain.seen_size(draw.sample, answer.prompt),
            {"turns": len(answer.turns), "calls": calls},
            answer.prompt.opened,
            recorded(answer.turns, self.out),
        )
