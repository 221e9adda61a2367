"""Rule rewards on 10,000 rollouts against the same rewards as users of TRL write them: a Python function, row by row.

    python -m benchmarks.rewards [--quick] [--json FILE]

Both sides get the same completions (eight to a group) in the same process, in turn, several times; the table has the
median and the range of the seconds of processor time. Scores must agree to 1e-6 on every row before anything is timed:
the completions are well formed, so that the plain functions are right about all of them.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rewards
from benchmarks.peers import regions as region_peers
from benchmarks.peers import rewards as peers
from benchmarks.rounds import parser_of, report
from rewards import Rollout

GROUP = 8
WORDS = (
    *("the", "red", "bus", "stands", "near", "a", "white", "bridge", "where", "two", "people", "walk"),
    *("their", "dog", "past", "an", "old", "stone", "house"),
)
NAMES = ("cat", "dog", "bus", "person")


@dataclass(frozen=True, slots=True)
class Case:
    """A reward with its options, what makes an answer and a completion for it, the plain function, and how many."""

    reward: str
    sample: Callable[[random.Random], tuple[Any, Callable[[random.Random], str]]]
    peer: Callable[..., list[float]]
    options: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0  # of the rollouts: where both sides take milliseconds each
    clock: Callable[[], float] = time.process_time  # a busy machine does not count; wall time where a process is asked

    @property
    def name(self) -> str:
        """The name of the case in the table."""
        mode = self.options.get("mode")
        return f"{self.reward} {mode}" if mode else self.reward


def choice(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    gold = {"choice": draw.choice("ABCD"), "options": ["cat", "dog", "bus", "bird"]}
    return gold, lambda row: row.choice("ABCD")


def yesno(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    return {"yesno": draw.random() < 0.5}, lambda row: row.choice(["Yes", "No", "yes.", "no."])


def number(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    value = draw.randrange(20)
    return {"number": value}, lambda row: str(value + row.randrange(2))


def math(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    a, b = draw.randint(1, 9), draw.randint(2, 9)
    return {"math": rf"\frac{{{a}}}{{{b}}}"}, lambda row: rf"\boxed{{\frac{{{a * 2}}}{{{b * row.randint(1, 2)}}}}}"


def text(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    golds = [draw.choice(WORDS), draw.choice(WORDS)]
    return {"text": golds}, lambda row: row.choice([golds[0].upper(), draw.choice(WORDS)])


def chart(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    value = draw.randint(10, 900)
    # six digits: never just on the edge of 5 %, where the peer's floats err
    return {"text": [str(value)]}, lambda row: str(round(value * row.uniform(0.9, 1.1), 6))


def line(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    gold = " ".join(draw.choices(WORDS, k=6))
    return {"text": [gold]}, lambda row: gold[: row.randint(len(gold) // 2, len(gold))]


def box(draw: random.Random) -> list[int]:
    x, y = draw.randint(0, 400), draw.randint(0, 400)
    return [x, y, x + draw.randint(20, 200), y + draw.randint(20, 200)]


def near(draw: random.Random, gold: Sequence[int]) -> list[int]:
    return [side + draw.randint(-9, 9) if i > 1 else side for i, side in enumerate(gold)]


def grounding(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    gold = box(draw)
    return {"boxes": [gold]}, lambda row: json.dumps([{"bbox_2d": near(row, gold), "label": "cat"}])


def detection(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    golds, labels = [box(draw) for _ in range(6)], draw.choices(NAMES, k=6)

    def write(row: random.Random) -> str:
        predicted = [{"bbox_2d": near(row, gold), "label": label} for gold, label in zip(golds, labels, strict=True)]
        objects = [*row.sample(predicted, 5), {"bbox_2d": box(row), "label": row.choice(labels)}]
        return f"```json\n{json.dumps(objects)}\n```"

    return {"boxes": golds, "labels": labels}, write


def pointing(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    golds = [box(draw) for _ in range(5)]
    return {"boxes": golds}, lambda row: json.dumps(
        [[row.randint(gold[0] - 9, gold[2]), row.randint(gold[1] - 9, gold[3])] for gold in golds]
    )


def temporal(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    start = draw.randint(0, 50)
    return {
        "spans": [[start, start + 9]]
    }, lambda row: f"[{start + row.randint(-4, 4)}.5, {start + row.randint(6, 15)}]"


def caption(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    gold = draw.choices(WORDS, k=60)
    return {"references": [" ".join(gold)]}, lambda row: " ".join(
        [row.choice(WORDS) if row.random() < 0.3 else word for word in gold]
    )


def chained(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    chain = {point: draw.sample(["red bus", "bridge", "people", "dog", "stone house", "old"], 3) for point in "abc"}
    return {"chain": chain}, lambda row: " ".join(row.choices(WORDS, k=60))


def calls(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    golds = [{"name": draw.choice(NAMES), "parameters": {"q": draw.choice(WORDS), "k": 5}} for _ in range(3)]

    def write(row: random.Random) -> str:
        made = [{**gold, "parameters": {**gold["parameters"], "k": row.choice([5, 6])}} for gold in golds]
        return "<tool_call>\n" + "\n".join(map(json.dumps, row.sample(made, 2))) + "\n</tool_call>"

    return {"tools": golds}, write


def objects(draw: random.Random) -> tuple[Any, Callable[[random.Random], str]]:
    return {"objects": draw.sample(NAMES, 2)}, lambda row: " ".join([*row.choices(WORDS[:-1], k=50), row.choice(NAMES)])


def rollouts(case: Case, count: int) -> list[Rollout]:
    """Rollouts in groups that share an answer, with thinking of sixty words before what is said."""
    made: list[Rollout] = []
    for group in range(-(-count // GROUP)):
        draw = random.Random(f"{case.reward} {group}")
        gold, write = case.sample(draw)
        for _ in range(GROUP):
            thought = f"<think>{' '.join(draw.choices(WORDS, k=60))}</think>\n"
            answer = write(draw)
            whole = answer if answer.startswith("<tool_call>") else f"<answer>{answer}</answer>"
            made.append(Rollout(thought + whole, gold, group=group))
    return made[:count]


def cases(table: str) -> list[Case]:
    """All cases; `table` is a directory with an embedding table and its tokenizer."""
    return [
        Case("box_iou", grounding, region_peers.box_iou),
        Case("box_set", detection, region_peers.box_f1, {"mode": "f1"}),
        Case("box_set", detection, region_peers.detection_map, {"mode": "map", "as_released": True}, share=0.05),
        Case("point_match", pointing, region_peers.point_f1),
        Case("span_iou", temporal, region_peers.span_iou),
        Case("bmas", caption, peers.bmas(table), {"table": table}),
        Case("choice_match", choice, peers.choice),
        Case("yesno_match", yesno, peers.yesno),
        Case("number_match", number, peers.number),
        Case("math_match", math, peers.expression, share=0.03, clock=time.perf_counter),
        Case("text_match", text, peers.text),
        Case("relaxed_match", chart, peers.relaxed),
        Case("anls", line, peers.anls),
        Case("bleu", caption, peers.bleu),
        Case("chrf", caption, peers.chrf, share=0.1),
        Case("rouge_l", caption, peers.rouge_l),
        Case("reward_chain", chained, peers.chain),
        Case("tool_call", calls, peers.tool_call),
        Case("object_hallucination", objects, peers.chair, {"mode": "chair_i"}),
        Case("think_format", choice, peers.think_format),
        Case("tag_format", choice, peers.tag_format),
        Case("repetition", caption, peers.repetition),
        Case("length_window", caption, peers.length_window),
        Case("overlong", caption, peers.overlong, {"limit": 120, "buffer": 60}),
    ]


def compared(case: Case, count: int, rounds: int) -> dict[str, Any]:
    """The row of one case; SystemExit where the two sides disagree."""
    batch = rollouts(case, max(int(count * case.share), 1))
    completions, answers = [sample.completion for sample in batch], [sample.answer for sample in batch]
    reward = rewards.get(case.reward, **case.options)
    for i, (verdict, plain) in enumerate(zip(reward(batch), case.peer(completions, answers), strict=True)):
        if verdict.score is None or abs(verdict.score - plain) > 1e-6:
            raise SystemExit(f"{case.name}: {verdict} is not {plain} on {batch[i].completion!r}, {batch[i].answer!r}")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours.append(seconds(lambda: reward(batch), case.clock))
        theirs.append(seconds(lambda: case.peer(completions, answers), case.clock))
    middle, other = statistics.median(ours), statistics.median(theirs)
    return {
        "case": case.name,
        "ours": middle,
        "peer": other,
        "ratio": other / middle,
        "unit": "s",
        "n": len(batch),
        "ranges": [[min(ours), max(ours)], [min(theirs), max(theirs)]],
    }


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """The seconds that the work takes."""
    start = clock()
    work()
    return clock() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases, print the table, write the rows."""
    options = parser_of(__doc__, "2,000 rollouts and three rounds").parse_args(argv)
    count, rounds = (2000, 3) if options.quick else (10_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        peers.write_table(Path(folder), WORDS)
        rows = [compared(case, count, rounds) for case in cases(folder)]
    report(rows, options.json, peer="row by row", number=".3g")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
