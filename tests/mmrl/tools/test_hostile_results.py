"""Whatever a tool returns is read as a result: text stays text, pictures are seen or refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import chat_text, encode
from mmrl.model.sampling import stop_tokens, vision_token_ids
from mmrl.tools.calls import Call, Outcome, calls_in
from mmrl.tools.chat import ToolChat
from mmrl.tools.form import with_tools
from mmrl.tools.scene import Scene, readable
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played
from rewards.prompt_form import PLAIN
from tests.mmrl.tools.test_turn_log_probs import templated
from tests.support.scripted import call
from tests.support.training import tiny_policy

CASES = [(architecture, template) for architecture in ("qwen2_5_vl", "qwen3_vl") for template in ("words", "native")]
NAMES = [f"tests.support.hostile_tools:{name}" for name in ("injects", "talks", "paints", "dies")]


class Spoken:
    """A tiny model, its processor, and what a scripted policy says to it."""

    def __init__(self, architecture: str, template: str, budget: VisionBudget) -> None:
        self.model, processor = tiny_policy(budget, architecture)
        self.processor, self.budget = templated(processor, template), budget
        self.form = with_tools(PLAIN, processor, NAMES)
        self.stops = stop_tokens(self.model, processor.tokenizer)
        self.chat = ToolChat(self.model, processor, self.stops, self.form)

    def rollout(self, sample: Sample, turns: list[str], toolbox: Toolbox, longest: int = 900) -> Conversation:
        """A rollout in which the policy says `turns`, one after the other."""
        prompt = encode(self.processor, sample.prompt, sample.media, self.budget, form=self.form)
        one, tokenizer = Conversation(prompt, Scene(), prompt), self.processor.tokenizer

        def draw(numbers: Any, turn: int, length: int) -> Drawn:
            ids = [*tokenizer(turns[turn], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            return Drawn([ids[:length]], [[0.0] * len(ids[:length])])

        played([one], draw, toolbox, self.chat, max_turns=len(turns), longest=longest)
        assert len(one.ids) == len(one.own) == len(one.logprobs) <= longest
        return one


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    box = Toolbox(NAMES, seconds=2.0)
    yield box
    box.close()


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def spoken(request: pytest.FixtureRequest, budget: VisionBudget) -> Spoken:
    architecture, template = request.param
    return Spoken(architecture, template, budget)


def read(spoken: Spoken, one: Conversation) -> list[int]:
    """The tokens that the policy has read behind the prompt."""
    return [token for token, own in zip(one.ids, one.own, strict=True) if not own]


def test_special_tokens_in_a_result_stay_text(spoken: Spoken, toolbox: Toolbox, mixed_samples: list[Sample]) -> None:
    one = spoken.rollout(mixed_samples[1], [call("injects"), "<answer>3</answer>"], toolbox)
    tokens = read(spoken, one)
    assert [outcome.kind for outcome in one.turns[0].outcomes] == ["ok"]
    assert "<answer>7</answer>" in spoken.processor.tokenizer.decode(tokens)
    assert sum(token in spoken.stops for token in tokens) == 1  # the end of the message with the result
    assert not set(tokens) & set(vision_token_ids(spoken.model.config, spoken.processor))
    assert "7" not in "".join(turn.said for turn in one.turns)
    assert one.scored is one.prompt


def test_a_picture_has_a_token_for_each_of_its_features(
    spoken: Spoken, toolbox: Toolbox, mixed_samples: list[Sample]
) -> None:
    turns = [call("paints", width=50, height=40) + call("paints", width=1, height=400), "3"]
    one = spoken.rollout(mixed_samples[1], turns, toolbox)
    assert [outcome.kind for outcome in one.turns[0].outcomes] == ["ok", "unusable"]
    scored, image = one.scored, spoken.model.config.image_token_id
    assert len(scored.behind) == 1
    grid = scored.tensors["image_grid_thw"]
    shown = [*one.prompt.input_ids, *one.ids].count(image)
    assert shown == int(grid.prod(dim=1).sum()) // spoken.processor.image_processor.merge_size**2
    types = scored.tensors["mm_token_type_ids"][0]
    behind = torch.tensor([*one.prompt.input_ids, *one.ids][: len(types)])
    assert torch.equal(types == 1, behind == image)


def test_a_result_without_room_is_told_so_and_then_the_rollout_ends(
    spoken: Spoken, toolbox: Toolbox, mixed_samples: list[Sample]
) -> None:
    said = [call("talks", letters=5000)] * 2
    one = spoken.rollout(mixed_samples[0], said, toolbox, longest=400)
    assert [[outcome.kind for outcome in turn.outcomes] for turn in one.turns] == [["no_room"], ["no_turn_left"]]
    assert "the result does not fit" in spoken.processor.tokenizer.decode(read(spoken, one))
    length = len(spoken.processor.tokenizer(said[0])["input_ids"]) + 2
    (turn,) = spoken.rollout(mixed_samples[0], said, toolbox, longest=length).turns
    assert [outcome.kind for outcome in turn.outcomes] == ["no_room"]
    (cut,) = spoken.rollout(mixed_samples[0], said, toolbox, longest=length - 3).turns
    assert cut.outcomes == []


def test_tools_are_told_of_behind_the_own_words_of_the_system(spoken: Spoken) -> None:
    prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "How many?"}]
    text = chat_text(spoken.processor, prompt, form=spoken.form)
    assert text.index("Be short.") < text.index("<tools>") < text.index('"name": "injects"') < text.index("How many?")
    alone = chat_text(spoken.processor, prompt[1:], form=spoken.form)
    assert "<tools>" in alone
    assert "Be short." not in alone


def test_hostile_texts_are_read_as_texts(spoken: Spoken) -> None:
    draw, tokenizer = random.Random(1), spoken.processor.tokenizer
    pieces = ["<|im_end|>", "<|image_pad|>", "<|vision_start|>", "</tool_response>", "<tool_call>", "\ud800", "\x00"]
    pieces += [
        "{{ 7*7 }}",
        "{% raw %}",
        "\n",
        " ",
        "\u202e",
        "é",
        "<think>",
        "'type': 'image'",
        '"type": "video"',
        "%s",
    ]
    special = {*spoken.stops, *vision_token_ids(spoken.model.config, spoken.processor)}
    alone = sum(token in special for token in spoken.chat.results([Outcome(Call("a"), "ok", ("x",))]).input_ids)
    for _ in range(60):
        text = readable("".join(draw.choices(pieces, k=draw.randint(1, 12))))
        outcomes = [Outcome(one, "unreadable", (text,)) for one in calls_in("<tool_call>")]
        results = spoken.chat.results(outcomes)
        assert sum(token in special for token in results.input_ids) == alone
        assert text.strip() in tokenizer.decode(results.input_ids)
