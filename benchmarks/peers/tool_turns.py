"""One GRPO step with tools and pictures in the prompt, mmrl against stock TRL: same weights, data, seed and draws.

    python -m benchmarks.peers.tool_turns [--quick] [--json FILE]

The policy is a small random one that would never call, so a grammar says among which tokens it draws: it may call once
or twice, with a number of its choice, and then answers in letters of its choice. The tools are an object with a state,
as in TRL's documentation, and one that returns a part of the picture. Rewards are made of what was read and answered.
Rewards must be equal, losses and norms of gradients as in `benchmarks.grpo_step`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessor

from benchmarks.grpo_step import Case, compared, measured, questions, samples, settings, small_model, stock
from benchmarks.rounds import parser_of, report
from mmrl.model.sampling import RowSampler, until_end

CALLS = 2  # the most of a rollout
LONGEST = 400  # tokens behind a prompt
PROGRAM = "benchmarks.peers.tool_turns"


@dataclass(frozen=True, slots=True)
class Turns(Case):
    """A tool is called; it returns a text, or a picture."""

    prompts: int = 2
    picture: bool = False

    @property
    def name(self) -> str:
        """The name of the case in the table."""
        return f"G={self.group}, {self.vision_tokens} vision tokens, {'pictures' if self.picture else 'texts'} returned"


QUICK = [Turns(8, 256), Turns(8, 256, picture=True)]
FULL = [Turns(8, tokens, picture=picture) for picture in (False, True) for tokens in (64, 256)]


class Counter:
    """An environment of TRL, and a tool with a state of mmrl."""

    def reset(self, **row: Any) -> None:
        """A rollout begins."""
        self.counter = 0

    def increment(self, step: int):  # transformers writes the type of a result into the prompt, mmrl does not
        """Increment the counter.

        Args:
            step: The amount to increment.
        """
        self.counter += step
        return str(self.counter)


class Looking:
    """The tool `look` as an environment of TRL."""

    def reset(self, image: Image.Image, **row: Any) -> None:
        """A rollout begins."""
        self.image = image

    def look(self, part: int):  # as above
        """Look at a quarter of the picture.

        Args:
            part: Its number, from 1 to 4.
        """
        return [{"type": "image", "image": quarter(self.image, part)}]


def look(part: int, *, scene: Any) -> Image.Image:
    """Look at a quarter of the picture.

    Args:
        part: Its number, from 1 to 4.
    """
    return quarter(scene.picture(1), part)


def quarter(image: Image.Image, part: int) -> Image.Image:
    """A quarter of a picture, row by row from 1 to 4."""
    width, height = image.width // 2, image.height // 2
    x, y = (part - 1) % 2 * width, (part - 1) // 2 * height
    return image.crop((x, y, x + width, y + height))


class Grammar(LogitsProcessor):
    """Leaves the tokens of a call, or the letters of an answer of `new_tokens` tokens, for rows behind `ids_BP`."""

    def __init__(self, tokenizer: Any, ids_BP: Any, case: Turns) -> None:
        def ids(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        tool, argument = ("look", "part") if case.picture else ("increment", "step")
        parts = f'<tool_call>\n{{"name": "{tool}", "arguments": {{"{argument}": ', "}}\n</tool_call>"
        before, after = ([[token] for token in ids(part)] for part in parts)
        self.end = [tokenizer.eos_token_id]
        self.call = [*before, [ids(number)[0] for number in "1234"], *after, self.end]
        self.letters = [ids(letter)[0] for letter in "abcdefghij"]
        self.start, self.new_tokens = ids_BP.shape[1], case.new_tokens
        self.may_call = [text.count("<tool_response>") < CALLS for text in tokenizer.batch_decode(ids_BP)]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """[B, V] scores, -inf at what does not fit."""
        allowed = torch.full_like(scores, -torch.inf)
        for row, (drawn, may_call) in enumerate(zip(input_ids[:, self.start :].tolist(), self.may_call, strict=True)):
            allowed[row, self._next(drawn, may_call)] = 0.0
        return scores + allowed

    def _next(self, drawn: list[int], may_call: bool) -> list[int]:
        if not drawn:
            return [self.letters[0], *(self.call[0] if may_call else [])]
        if drawn[0] == self.call[0][0]:
            return self.call[min(len(drawn), len(self.call) - 1)]
        return self.letters if len(drawn) < self.new_tokens else self.end


def score(answer: str, read: Sequence[str]) -> float:
    """The share of the letters that an answer has, and the numbers that were read."""
    return len(set(answer)) / 20 + sum(int(text or 1) for text in read) / 50


def of_turns(rollouts: Any) -> list[float]:
    """The reward of mmrl."""
    return [
        score(one.turns[-1]["said"], [call["read"] for turn in one.turns for call in turn["calls"]]) for one in rollouts
    ]


def of_messages(completions: list[Any], **_: Any) -> list[float]:
    """The reward of TRL."""
    return [
        score(
            completion[-1]["content"],
            [one["content"] if isinstance(one["content"], str) else "" for one in completion if one["role"] == "tool"],
        )
        for completion in completions
    ]


def ours(case: Turns, out: Path, size: Any = None, **changes: Any) -> Any:
    """mmrl's trainer on the case."""
    from mmrl.grpo.trainer import MultimodalGRPOTrainer
    from mmrl.tools.settings import ToolSettings
    from mmrl.trainers.dataset import as_dataset
    from rewards import Suite

    model, processor, budget = caller(case, size)
    generate = model.generate

    def drawing(*, input_ids: Any, logits_processor: Any, **inputs: Any) -> Any:
        grammar = Grammar(processor.tokenizer, input_ids, case)
        return generate(input_ids=input_ids, logits_processor=[grammar, *logits_processor], **inputs)

    model.generate = drawing
    return MultimodalGRPOTrainer(
        model,
        processing_class=processor,
        rewards=Suite({"turns": {"fn": f"{PROGRAM}:of_turns"}}),
        args=settings(case, out, max_completion_length=LONGEST, **changes),
        train_dataset=as_dataset(samples(case, out)),
        budget=budget,
        advantages="grpo",
        tools=ToolSettings(tools=[f"{PROGRAM}:{'look' if case.picture else 'Counter'}"], max_turns=CALLS + 1),
    )


def peer(case: Turns, out: Path, size: Any = None, **changes: Any) -> Any:
    """TRL's trainer on the case; only its random numbers are ours."""
    model, processor, _ = caller(case, size)
    args = settings(case, out, max_completion_length=LONGEST, max_tool_calling_iterations=CALLS, **changes)
    generate, draws = model.generate, Draws(args.seed, case.group)

    def drawing(*, input_ids: Any, attention_mask: Any, **inputs: Any) -> Any:
        keys = draws.keys([ids[seen.bool()].tolist() for ids, seen in zip(input_ids, attention_mask, strict=True)])
        processors = [Grammar(processor.tokenizer, input_ids, case), RowSampler(keys, max_new_tokens=LONGEST)]
        drawn = generate(input_ids=input_ids, attention_mask=attention_mask, logits_processor=processors, **inputs)
        draws.came(
            [until_end(ids, [processor.tokenizer.eos_token_id]) for ids in drawn[:, input_ids.shape[1] :].tolist()]
        )
        return drawn

    world = Looking if case.picture else Counter
    return stock(case, model, processor, args, drawing, of_messages, environment_factory=world)


class Draws:
    """The keys of mmrl's random numbers for the rows of TRL; those of a later turn are some of the turn before."""

    def __init__(self, seed: int, group: int) -> None:
        self.seed, self.group, self.step, self.turn = seed, group, -1, 0
        self.rows: list[tuple[tuple[int | str, ...], list[int]]] = []  # the key of a rollout, and its tokens so far

    def keys(self, prompts: list[list[int]]) -> list[tuple[int | str, ...]]:
        """The keys of rows with these tokens; what follows no row of the turn before begins a step."""
        going = iter(self.rows)
        own = [next((key for key, ids in going if prompt[: len(ids)] == ids), None) for prompt in prompts]
        self.turn += 1
        if None in own:
            self.step, self.turn = self.step + 1, 0
            places = [divmod(place, self.group) for place in range(len(prompts))]
            own = [(self.seed, self.step, 0, str(number), draw) for number, draw in places]
        self.rows = [(key or (), prompt) for key, prompt in zip(own, prompts, strict=True)]
        return [(*key, "turn", self.turn) if self.turn else key for key, _ in self.rows]

    def came(self, completions: list[list[int]]) -> None:
        """Add what was drawn for the rows."""
        self.rows = [(key, [*ids, *said]) for (key, ids), said in zip(self.rows, completions, strict=True)]


def caller(case: Turns, size: Any) -> tuple[Any, Any, Any]:
    """The small policy with the chat template of Qwen3-VL, which tells of tools; its processor and vision budget."""
    template = files("trl").joinpath("chat_templates/qwen3_vl.jinja").read_text()
    model, processor, budget = small_model(case, [*questions(case), template], size)
    processor.chat_template = template
    return model, processor, budget


def main() -> None:
    """Run the cases and print the table."""
    parser = parser_of(__doc__, "256 vision tokens only")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side and case")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, case = arguments.worker
        print(json.dumps(measured(ours if side == "ours" else peer, None, Turns(**json.loads(case)))))
        return
    cases = QUICK if arguments.quick else FULL
    table = [row for case in cases for row in compared(PROGRAM, case, arguments.repeats)]
    report(table, arguments.json, peer="TRL", ratio="ratio", number=".3g")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
