"""Supervised answers of several turns: the gold calls are made, their results are read, and the answer follows.

The calls of a sample are its `meta["calls"]`, each {name, parameters} and a turn of its own. A `box` is in pixels of
its picture, and is said in the model's space. Tools run as in rollouts (`mmrl.tools.turns`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_engine.schema import Sample
from mmrl.core.boxes import CoordinateSpace
from mmrl.core.config import InputError, nearest
from mmrl.model.encoding import Encoded, naming
from mmrl.model.inputs import bare
from mmrl.model.sampling import seed_of, stop_tokens
from mmrl.tools.chat import ToolChat
from mmrl.tools.registry import tools_of
from mmrl.tools.scene import Scene, ToolError
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played, scene_of
from mmrl.trainers.targets import Answers, rendered
from rewards.parse.calls import are_calls
from rewards.prompt_form import PromptForm

CALLS = "calls"  # of the meta of a sample
CALLING = "<think>I look</think><tool_call>{call}</tool_call>"
ROOM = 1 << 20  # tokens behind a prompt: what is given is not cut
GivenTurns = tuple[Encoded, list[int], list[bool]]  # the prompt with all media, token ids behind it, which are learned


@dataclass
class GoldTurns:
    """Writes the turns of rows of `mmrl.trainers.dataset`, asked in `form`, which tells of the tools."""

    processor: Any
    model: Any
    settings: ToolSettings
    form: PromptForm
    space: CoordinateSpace

    def turns(self, row: Mapping[str, Any], prompt: Encoded, answers: Answers) -> GivenTurns:
        """The turns of a row behind its prompt."""
        calls = row["meta"][CALLS]
        index = self._toolbox.index
        known = {"answer": row["answer"], "seed": seed_of(row["id"]), "index": index}
        whole = Conversation(prompt, scene_of(row["media"], prompt, space=self.space, **known), prompt)

        def draw(_: Sequence[int], turn: int, __: int) -> Drawn:
            last = turn == len(calls)
            said = rendered(row, self.space, prompt.seen_size) if last else written(calls[turn], whole.scene)
            ids = answers.tokens(said, whole.row)
            return Drawn([ids], [[0.0] * len(ids)])

        with naming(row["id"]):
            played([whole], draw, self._toolbox, self._chat, max_turns=len(calls) + 1, longest=ROOM)
            for outcome in (outcome for turn in whole.turns for outcome in turn.outcomes):
                if outcome.kind != "ok":
                    why = "".join(piece for piece in outcome.pieces if isinstance(piece, str))
                    raise InputError(f"the gold call of {outcome.call.name} is {outcome.kind}: {why}")
        return whole.scored, whole.ids, whole.own

    @functools.cached_property
    def _toolbox(self) -> Toolbox:
        return Toolbox(self.settings.tools, self.settings.tool_seconds, self.settings.search_in)

    @functools.cached_property
    def _chat(self) -> ToolChat:
        return ToolChat(self.model, self.processor, stop_tokens(bare(self.model), self.processor.tokenizer), self.form)


def written(call: Mapping[str, Any], scene: Scene) -> str:
    """A turn that makes a gold call, whose `box` is one of the scene's pictures."""
    parameters = dict(call["parameters"])
    if "box" in parameters:
        try:
            parameters["box"] = scene.said(parameters["box"], parameters.get("picture", 1))
        except (ToolError, TypeError, ValueError) as error:  # of a picture that is not there, and of no box
            raise InputError(f"the box of the gold call of {call['name']} cannot be written: {error}") from None
    return CALLING.format(call=json.dumps({"name": call["name"], "arguments": parameters}, ensure_ascii=False))


def check_calls(samples: Iterable[Sample], settings: ToolSettings) -> None:
    """Refuse gold calls that are none, that the tools do not know, or for which there are too few turns."""
    known = tools_of(settings.tools)
    for sample in samples:
        calls = sample.meta.get(CALLS)
        if calls is None:
            continue
        if not are_calls(calls):
            raise InputError(f"sample {sample.id}: meta.calls are not {{name, parameters}}: {calls!r:.200}")
        for call in calls:
            if call["name"] not in known:
                raise InputError(f"sample {sample.id}: no tool {call['name']!r:.60}; {nearest(call['name'], known)}")
        if len(calls) >= settings.max_turns:
            raise InputError(
                f"sample {sample.id}: {len(calls)} gold calls and an answer need more than rollout.max_turns="
                f"{settings.max_turns} turns"
            )
