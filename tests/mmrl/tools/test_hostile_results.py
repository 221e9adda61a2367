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
from mmrl.tools.calls import KINDS, Call, Outcome, calls_in
from mmrl.tools.chat import ToolChat
from mmrl.tools.form import with_tools
from mmrl.tools.scene import Scene, readable
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from mmrl.tools.turns import Conversation, Drawn, played
from rewards.prompt_form import PLAIN
from tests.mmrl.tools.test_turn_log_probs import templated
from tests.support.scripted import call
from tests.support.training import tiny_policy

CASES = [(architecture, template) for architecture in ("qwen2_5_vl", "qwen3_vl") for template in ("words", "native")]
HOSTILE = ("injects", "talks", "paints", "dies", "raves", "raises", "returns_odd", "empty", "grey_clip", "waits")
NAMES = [f"tests.support.hostile_tools:{name}" for name in HOSTILE]


class Spoken:
    """A tiny model, its processor, and what a scripted policy says to it."""

    def __init__(self, architecture: str, template: str, budget: VisionBudget) -> None:
        self.model, processor = tiny_policy(budget, architecture)
        self.processor, self.budget = templated(processor, template), budget
        self.form = with_tools(PLAIN, processor, ToolSettings(tools=NAMES))
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


def test_a_state_goes_on_from_turn_to_turn(mixed_samples: list[Sample], budget: VisionBudget) -> None:
    box = Toolbox(["tests.support.stateful_tools:Guessing"], seconds=10.0)
    said = [call("wait", seconds=0), call("wait", seconds=0) * 2, "done"]
    one = Spoken("qwen2_5_vl", "words", budget).rollout(mixed_samples[0], said, box)
    box.close()
    assert [[outcome.pieces for outcome in turn.outcomes] for turn in one.turns] == [
        [("3 left",)],
        [("2 left",), ("1 left",)],
        [],
    ]


def hostile_turn(draw: random.Random) -> str:
    """What a policy that has gone astray may say: broken blocks, odd calls, several of them."""
    pieces = ["<tool_call>", "</tool_call>", '{"name":', '"raves"', '"arguments":', "{", "}", "[", "1e999", "null", ","]
    pieces += ['"seed"', "NaN", '"\\ud800"', "<", '"', ":", "\n", "-", "[0,0,9,9]", "<think>", "</tool_response>"]
    if draw.random() < 0.4:
        return "".join(draw.choices(pieces, k=draw.randint(1, 40)))
    odd: list[Any] = [0, 1, -1, 7, 28, 40, 400, 9000, 10**30, 0.5, "x", None, True, [], {}, "9" * 50]
    calls = [
        ("raves", {"seed": draw.randint(0, 10**6), "pieces": draw.choice([0, 1, 12, 60, 3000])}),
        ("paints", {"width": draw.choice([0, 1, 20, 56, 400]), "height": draw.choice([0, 1, 20, 56, 400])}),
        (draw.choice(["raises", "talks", "paints", "raves"]), {"text": draw.choice(odd), "letters": draw.choice(odd)}),
        ("talks", {"letters": draw.choice(odd)}),
        (draw.choice(["injects", "returns_odd", "empty", "grey_clip", "waits", "scene", "", "__import__"]), {}),
        ("dies" if draw.random() < 0.02 else "waits", {}),
    ]
    return "".join(call(name, **arguments) for name, arguments in draw.choices(calls, k=draw.choice([1, 1, 1, 2, 6])))


@pytest.mark.slow
def test_2500_hostile_turns_of_each_template_are_read(
    spoken: Spoken, toolbox: Toolbox, mixed_samples: list[Sample]
) -> None:
    """10,000 turns over all templates, each with up to six calls and what they return."""
    draw, image, kinds = random.Random(5), spoken.model.config.image_token_id, set()
    of_media = set(vision_token_ids(spoken.model.config, spoken.processor)) - {image}
    merged = spoken.processor.image_processor.merge_size**2
    for _ in range(2500):
        one = spoken.rollout(mixed_samples[0], [hostile_turn(draw), "3"], toolbox, longest=700)
        tokens = read(spoken, one)
        pictures = [results.tensors["image_grid_thw"] for results in one.behind]
        assert tokens.count(image) == sum(int(grid.prod(dim=1).sum()) for grid in pictures) // merged
        assert sum(token in spoken.stops for token in tokens) == (len(one.turns) - 1)
        assert pictures or not of_media.intersection(tokens)
        kinds |= {outcome.kind for turn in one.turns for outcome in turn.outcomes}
    missed = {"refused", "timed_out", "no_turn_left"}  # no tool here does so, and the last turn makes no call
    assert kinds == set(KINDS) - missed


def test_a_tokenizer_with_a_schema_reads_its_own_calls(
    toolbox: Toolbox, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    """Qwen3.5 writes calls as XML; an argument has the type that the tool's schema says."""
    spoken = Spoken("qwen3_vl", "qwen3_5_nothink", budget)
    said = "<tool_call>\n<function=paints>\n{}</function>\n</tool_call>"
    sizes = "".join(f"<parameter={name}>\n{size}\n</parameter>\n" for name, size in (("width", 50), ("height", 40)))
    one = spoken.rollout(mixed_samples[0], [said.format(sizes), said.format(""), call("waits"), "3"], toolbox, 2000)
    assert spoken.chat.parses
    assert [[outcome.kind for outcome in turn.outcomes] for turn in one.turns] == [
        ["ok"],
        ["wrong_arguments"],
        ["ok"],
        [],
    ]
    assert len(one.behind) == 1
