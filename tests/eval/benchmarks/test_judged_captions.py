"""Captions by a judge: DCScore, CaptionQA, CapArena and b-CapScore on replies whose scores are known."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks.load import metrics_of
from eval.benchmarks.published.captionqa import captionqa_judged, is_yes_no
from eval.benchmarks.published.decapbench import Fact, dcscore, decap, precision_recall
from eval.benchmarks.scoring import UNREAD
from rewards import Rollout
from rewards.judged.captions import b_cap_score
from tests.support.benchmarks.answers import answered, benchmark, gold, numbers
from tests.support.benchmarks.description_rows import CAPARENA, CAPTIONQA
from tests.support.benchmarks.judge import data_of, fair, judging, prompt_of
from tests.support.judge_server import serving, verdict


def judged(name: str, tmp_path: Path, reply: Any, script: Any = None, **options: Any) -> dict[str, float | None]:
    """The numbers of a model that says `reply`, by a judge that answers by `script`."""
    with judging(script) as (judge, _):
        return numbers(name, benchmark(name, tmp_path, **options).load(), reply, judge)


def test_dcscore_is_the_papers_vector() -> None:
    facts = [Fact(True, True, i) for i in range(4)] + [Fact(True, True)]
    facts += [Fact(True, True, 4), Fact(True, True, 4)] + [Fact(True, False)] * 3  # 7 of 10 hold; two share an oracle
    precision, recall = precision_recall(facts, 6, facts)
    assert (precision, recall) == (0.7, pytest.approx((4 + 1 + 1) / 7))
    vector = [Fact(True, True, i) for i in range(4)] + [Fact(True, True)] + [Fact(True, False)] * 5
    assert precision_recall(vector, 6, vector)[1] == pytest.approx(5 / 7)
    p, r = 0.7, 5 / 7
    assert 2 * p * r / (p + r) == pytest.approx(0.7070707)


def test_dcscores_second_f1_is_over_relevant_facts_with_the_weights_of_all() -> None:
    facts = [Fact(True, True, 0), Fact(False, True, 0), Fact(False, True)]
    assert precision_recall(facts, 2, facts) == (1, pytest.approx((0.5 + 0.5 + 1) / 3))
    relevant = [fact for fact in facts if fact.relevant]
    assert precision_recall(relevant, 2, facts) == (1, 0.25)  # its half share stays, though its twin is left out
    assert decap([], 3) == 0
    assert decap([Fact(False, True, 0)], 1) == pytest.approx(0.5)  # nothing relevant: that F1 is 0


def test_decapbench_end_to_end(tmp_path: Path) -> None:
    caption = "A dog sits. The dog is brown. There is a tree. A cat sleeps. The mood is calm"
    metrics = judged("decapbench", tmp_path, lambda _: caption)
    precision, recall = 3 / 5, (2 + 1) / (3 + 1)
    relevant = 3 / 4
    expected = 50 * (2 * precision * recall / (precision + recall) + 2 * relevant * recall / (relevant + recall))
    assert metrics["judge_dcscore"] == pytest.approx(expected)


def test_dcscore_asks_again_with_seeds_and_averages(tmp_path: Path) -> None:
    def script(body: dict[str, Any]) -> str:
        if prompt_of(body) == "decap_verify" and body.get("seed") == 1:
            return verdict(body, verified=[False] * len(json.loads(data_of(body)[1])))
        return fair(body)

    samples = benchmark("decapbench", tmp_path).load()[:1]
    rollout = Rollout(gold(samples[0]), samples[0].answer, "caption", samples[0].prompt, samples[0].media)
    with serving(script) as server:
        assert dcscore([rollout], judge=server.judge(), trials=2)[0].score == 0.5


def test_captionqa_scores_abstaining_a_bit_above_a_guess(tmp_path: Path) -> None:
    """Right, right, wrong, abstain with four choices: the paper's vector has mean .575."""
    quiz = [{"question": "?", "options": ["a", "b", "c", "d", "none"], "right": 0, "cannot": 4} for _ in range(4)]
    replies = iter("AABE")
    with serving(lambda _: next(replies)) as server:
        verdicts = [
            captionqa_judged([Rollout("caption", {"quiz": [question | {"question": str(i)}]})], judge=server.judge())[0]
            for i, question in enumerate(quiz)
        ]
    assert [verdict.score for verdict in verdicts] == [1, 1, 0, pytest.approx(0.3)]
    assert sum(verdict.score or 0 for verdict in verdicts) / 4 == pytest.approx(0.575)


def test_captionqa_shuffles_over_the_whole_set_in_its_order(tmp_path: Path) -> None:
    rng, orders = random.Random(0), []
    for _ in CAPTIONQA:
        for count in (5, 2):  # four choices and "cannot answer"; yes/no questions have none; one has no right choice
            order = list(range(count))
            rng.shuffle(order)
            orders.append(order)
    asked = []
    for sample in sorted(benchmark("captionqa", tmp_path).load(), key=lambda s: s.meta["item"]):
        for question in sample.answer["quiz"]:
            known = (
                ["red", "blue", "green", "grey", "Cannot answer from the caption"]
                if len(question["options"]) == 5
                else ["yes", "no"]
            )
            asked.append([known.index(option) for option in question["options"]])
    assert asked == orders


@pytest.mark.parametrize(
    ("question", "choices", "expected"),
    [
        ("Which?", ["Yes", "No"], True),
        ("Is it red?", ["red", "blue"], True),
        ("Island?", ["a", "b"], False),
        ("What?", ["yes", "maybe"], False),
    ],
)
def test_captionqas_yes_no_questions(question: str, choices: list[str], expected: bool) -> None:
    assert is_yes_no(question, choices) is expected


def test_captionqa_counts_questions_and_not_pictures(tmp_path: Path) -> None:
    metrics = judged("captionqa", tmp_path, lambda s: "blue yes" if s.meta["domain"] == "natural" else "no idea")
    assert metrics["natural.judge_accuracy"] == 1
    assert metrics["document.judge_cannot_answer"] == 0.5
    assert metrics["judge_captionqa"] == pytest.approx((1 + 1 + 0.3 + 0) / 4)
    metrics = judged("captionqa", tmp_path / "x", lambda _: "blue yes", lambda _: "The answer is A")
    assert (metrics["judge_captionqa"], metrics["judge_unread"]) == (0, 1)


def test_caparena_is_wins_less_losses_by_reference_model(tmp_path: Path) -> None:
    rows = {
        f"{kind}{i}.png": {"image": "0.png", "ref_model": "M", "captions": {"M": f"rival {i}", "human": f"human {i}"}}
        for kind, count in (("win", 6), ("tie", 1), ("loss", 3))
        for i in range(count)
    }

    def reply(sample: Any) -> str:
        kind = sample.meta["item"][:3]
        return {"win": sample.answer["references"][0], "tie": sample.answer["rival"], "los": "worse"}[kind]

    def script(body: dict[str, Any]) -> str:
        reference, first, second = data_of(body)
        if first == second:
            return "Tie."
        if "worse" in (first, second):
            return f"Caption {2 if first == 'worse' else 1} is better"
        return f"Caption {1 if first == reference else 2} is better."

    metrics = judged("caparena_auto", tmp_path, reply, script, rows=rows)
    assert (
        metrics["judge_caparena"] == metrics["judge_caparena.M"] == pytest.approx(30)
    )  # as 120, 20, 60 of 200 would be


def test_caparena_records_who_came_first_and_wants_exact_verdicts(tmp_path: Path) -> None:
    names = {f"{i}.png": {**CAPARENA["0.png"], "image": "0.png"} for i in range(12)}
    samples = benchmark("caparena_auto", tmp_path, names).load()
    assert {sample.meta["first"] for sample in samples} == {True, False}
    again = benchmark("caparena_auto", tmp_path / "b", names).load()
    assert [s.meta["first"] for s in samples] == [s.meta["first"] for s in again]
    with judging(lambda _: "I think Caption 1 is better") as (judge, _):
        records = answered("caparena_auto", samples, gold, judge)
    assert all(record.why["judge_caparena"].startswith(UNREAD) for record in records)
    assert metrics_of(records) is None  # withheld: the judge says nothing that can be read


def test_b_cap_score_is_the_papers_vector(tmp_path: Path) -> None:
    assert b_cap_score(0.6, 4 / 6, 0.8) == pytest.approx(67.9245283)
    metrics = judged("coco_captions", tmp_path, lambda _: "A dog. A dog")
    assert metrics["judge_b_capscore"] == 0  # nothing of the reference is covered
    assert metrics["judge_precision"] == 1
