"""Rollouts whose turns need not wait for the tools of others, and those that take their turns together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import encode
from mmrl.model.sampling import stop_tokens
from mmrl.tools.chat import ToolChat
from mmrl.tools.form import with_tools
from mmrl.tools.scene import Scene
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played
from rewards.prompt_form import PLAIN
from tests.support.scripted import call
from tests.support.training import tiny_policy

NAMES = [f"tests.support.hostile_tools:{name}" for name in ("awaits", "makes")] + ["calculator"]
DONE, QUICK = "Done.", call("calculator", expression="1 + 1")


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    box = Toolbox(NAMES, seconds=3.0)
    yield box
    box.close()


def told(
    says: Sequence[Sequence[str]], sample: Sample, budget: VisionBudget, toolbox: Toolbox, *, apart: bool
) -> tuple[list[Conversation], list[tuple[list[int], int]]]:
    """Rollouts that say these turns, and which of them were drawn together, with the number of the turn."""
    model, processor = tiny_policy(budget, "qwen2_5_vl")
    form = with_tools(PLAIN, processor, ToolSettings(tools=NAMES))
    chat = ToolChat(model, processor, stop_tokens(model, processor.tokenizer), form)
    prompt = encode(processor, sample.prompt, sample.media, budget, form=form)
    rollouts, drawn = [Conversation(prompt, Scene(), prompt) for _ in says], list[tuple[list[int], int]]()

    def draw(numbers: Sequence[int], turn: int, length: int) -> Drawn:
        drawn.append((list(numbers), turn))
        said = [processor.tokenizer(says[number][turn], add_special_tokens=False)["input_ids"] for number in numbers]
        ids = [[*one, processor.tokenizer.eos_token_id][:length] for one in said]
        return Drawn(ids, [[0.0] * len(one) for one in ids])

    played(rollouts, draw, toolbox, chat, max_turns=4, longest=900, apart=apart)
    return rollouts, drawn


@pytest.mark.parametrize(("apart", "outcome"), [(True, "ok"), (False, "timed_out")])
def test_a_rollout_goes_on_while_the_tool_of_another_runs(
    apart: bool, outcome: str, mixed_samples: list[Sample], budget: VisionBudget, toolbox: Toolbox, tmp_path: Path
) -> None:
    """The first waits for a file that the second makes in its second turn."""
    place = str(tmp_path / "met")
    says = [[call("awaits", path=place), DONE], [QUICK, call("makes", path=place), DONE]]
    rollouts, drawn = told(says, mixed_samples[0], budget, toolbox, apart=apart)
    assert [[one.kind for turn in rollout.turns for one in turn.outcomes] for rollout in rollouts] == [
        [outcome],
        ["ok", "ok"],
    ]
    assert drawn[0] == ([0, 1], 0)
    assert drawn[1] == (([1], 1) if apart else ([0, 1], 1))


def test_rollouts_are_the_same_apart_and_together(
    mixed_samples: list[Sample], budget: VisionBudget, toolbox: Toolbox
) -> None:
    says = [[QUICK, DONE], [DONE], [QUICK, QUICK, QUICK, QUICK], [QUICK, f"{QUICK}{QUICK}", DONE]]
    (apart, _), (together, drawn) = (told(says, mixed_samples[0], budget, toolbox, apart=how) for how in (True, False))
    assert [(one.ids, one.own, one.text) for one in apart] == [(one.ids, one.own, one.text) for one in together]
    kinds = [[[one.kind for one in turn.outcomes] for turn in rollout.turns] for rollout in apart]
    assert kinds[1:3] == [[[]], [["ok"], ["ok"], ["ok"], ["no_turn_left"]]]
    assert drawn == [([0, 1, 2, 3], 0), ([0, 2, 3], 1), ([2, 3], 2), ([2], 3)]
