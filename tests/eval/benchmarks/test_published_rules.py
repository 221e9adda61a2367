"""The published rules of the benchmarks and their edge cases, on replies whose scores are known."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.benchmarks.published.mathverse import letter_or_value, rounded_match
from eval.benchmarks.published.mathvista import mathvista_match
from eval.benchmarks.published.mmmu import DISCIPLINES, mmmu_choice, mmmu_open
from mmrl.core.config import InputError
from rewards import Rollout, get
from tests.support.benchmarks.answers import FIXTURES, benchmark, gold, numbers, score, text_of
from tests.support.benchmarks.choice_rows import MMBENCH, REFCOCO
from tests.support.benchmarks.text_rows import MATHVISTA

# grounding


def test_gold_boxes_are_turned_from_xywh_into_corners(tmp_path: Path) -> None:
    samples = benchmark("refcoco_val", tmp_path).load()
    assert len(samples) == 4  # one per expression
    assert {str(sample.answer["boxes"]) for sample in samples} == {"[[4.0, 6.0, 24.0, 16.0]]"}


@pytest.mark.parametrize(
    ("reply", "accuracy", "best", "centre", "unparsed"),
    [
        ("[4, 6, 24, 16]", 1, 1, 1, 0),
        ("[4, 6, 24, 11]", 1, 1, 1, 0),  # exactly half counts
        ("[4, 6, 24, 10.9]", 0, 0, 1, 0),
        ("[24, 16, 4, 6]", 1, 1, 1, 0),  # swapped corners
        ("[30, 30, 40, 40], [4, 6, 24, 16]", 0, 1, 0, 0),  # the first counts
        ("[4, 6, 24]", 0, 0, 0, 1),
        ('{"bbox_2d": [4, 6, 24', 0, 0, 0, 1),
        ("none", 0, 0, 0, 1),
    ],
)
def test_refcoco(tmp_path: Path, reply: str, accuracy: int, best: int, centre: int, unparsed: int) -> None:
    metrics = numbers("refcoco_val", benchmark("refcoco_val", tmp_path).load(), lambda _: reply)
    assert (metrics["accuracy"], metrics["best_of_all"], metrics["centre"], metrics["unparsed"]) == (
        accuracy,
        best,
        centre,
        unparsed,
    )


def test_box_overlap_agrees_with_pycocotools() -> None:
    from pycocotools import mask

    draw = random.Random(0)
    for _ in range(50):
        a, b = ([draw.randint(0, 30), draw.randint(0, 20), draw.randint(1, 30), draw.randint(1, 20)] for _ in range(2))
        expected = float(np.asarray(mask.iou(np.array([a], float), np.array([b], float), [0]))[0, 0])
        corners = [[x, y, x + w, y + h] for x, y, w, h in (a, b)]
        assert score(get("box_iou"), str(corners[0]), {"boxes": [corners[1]]}) == pytest.approx(expected, abs=1e-9)


def test_a_gold_box_without_area_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected xywh pixels"):
        benchmark("refcoco_val", tmp_path, [{**REFCOCO[0], "bbox": [4.0, 6.0, 0.0, 3.0]}]).load()


# multiple choice


def test_one_wrong_rotation_loses_the_question(tmp_path: Path) -> None:
    samples = benchmark("mmbench_en", tmp_path).load()
    assert sorted(sample.meta["question"] for sample in samples) == ["0"] * 3 + ["1"] * 4  # fewer options, fewer turns
    metrics = numbers("mmbench_en", samples, lambda s: "none" if s.meta["turn"] == 1 else gold(s))
    assert (metrics["circular"], metrics["vanilla"], metrics["mean_of_rotations"]) == (0, 1, pytest.approx(5 / 7))
    metrics = numbers(
        "mmbench_en", samples, lambda s: "?" if (s.meta["question"], s.meta["turn"]) == ("1", 2) else gold(s)
    )
    assert (metrics["circular"], metrics["category.object"], metrics["ability.coarse"]) == (0.5, 0.5, 0)


def test_always_the_same_letter_never_goes_round(tmp_path: Path) -> None:
    metrics = numbers("mmbench_en", benchmark("mmbench_en", tmp_path).load(), lambda _: "A")
    assert (metrics["circular"], metrics["vanilla"], metrics["mean_of_rotations"]) == (0, 0.5, pytest.approx(2 / 7))


def test_an_empty_option_column_moves_the_letters_and_not_the_answer(tmp_path: Path) -> None:
    row = {**MMBENCH[1], "C": "", "D": "cow", "answer": "D"}
    for name in ("mmbench_en", "mmbench_circular"):
        answers = [sample.answer for sample in benchmark(name, tmp_path / name, [row]).load()]
        assert {answer["options"]["ABC".index(answer["choice"])] for answer in answers} == {"cow"}
    with pytest.raises(InputError, match="question 1: the answer is C, and filled are A, B, D"):
        benchmark("mmbench_en", tmp_path / "c", [{**row, "answer": "C"}]).load()


def test_the_hint_comes_first_and_options_follow_as_lines(tmp_path: Path) -> None:
    rows = [{**MMBENCH[0], "hint": "Look at the tail."}]
    sample = next(s for s in benchmark("mmbench_en", tmp_path, rows).load() if s.meta["turn"] == 0)
    text = sample.prompt[0]["content"][-1]["text"]
    assert text.startswith("Look at the tail.\nWhich animal is number 0?\nA. cat\nB. dog\nC. emu\nAnswer with")


def test_blink_has_a_macro_mean_over_its_tasks(tmp_path: Path) -> None:
    metrics = numbers(
        "blink", benchmark("blink", tmp_path).load(), lambda s: gold(s) if s.meta["subtask"] == "Jigsaw" else "?"
    )
    assert (metrics["macro"], metrics["accuracy"]) == (0.5, pytest.approx(1 / 3))


def test_scienceqa_leaves_out_rows_without_a_picture(tmp_path: Path) -> None:
    assert len(benchmark("scienceqa_img", tmp_path).load()) == 2


def test_realworldqa_compares_words_without_the_final_period(tmp_path: Path) -> None:
    metrics = numbers(
        "realworldqa", benchmark("realworldqa", tmp_path).load(), lambda s: "B." if s.task == "choice" else "3."
    )
    assert metrics["accuracy"] == 1


def test_mmmu_puts_pictures_at_their_markers(tmp_path: Path) -> None:
    sample = next(s for s in benchmark("mmmu_val", tmp_path).load() if s.task == "choice")
    kinds = [part["type"] for part in sample.prompt[0]["content"]]
    assert kinds == ["text", "image", "text", "image", "text"]
    assert sample.media[0].sha256 != sample.media[1].sha256
    assert sample.meta == {
        "subject": "Art",
        "discipline": "art_design",
        "benchmark": "mmmu_val",
        "item": "validation_Art_1",
    }


@pytest.mark.parametrize(
    ("reply", "right", "expected"),
    [
        ("The answer is 1,200.", "1200", 1),
        ("1/2", "0.5", 0),
        ("so x = 3.004", "3.00", 1),  # rounded to 2 decimals
        ("It is a red bus", "bus", 1),  # a gold text is contained
        ("Final answer: wide", "d", 0),  # one letter stands alone
        ("Final answer: d", "d", 1),
        ("It could be 5.\nThus 6", "5", 1),  # every candidate is tried
        ("cat", "dog", 0),
        ("The answer is .5", "0.5", 1),
    ],
)
def test_mmmu_open_answers(reply: str, right: str, expected: int) -> None:
    assert score(mmmu_open, reply, {"text": [right]}) == expected


def test_mmmu_accepts_any_gold() -> None:
    assert score(mmmu_open, "twelve hundred", {"text": ["1200", "twelve hundred"]}) == 1


@pytest.mark.parametrize(
    ("reply", "expected", "kind"),
    [
        ("(A) no, (B)", 1, "scored"),
        ("A B", 1, "scored"),
        ("I would go for the old dog here", 1, "scored"),
        ("hm", 0, "unparsed"),  # published: a random letter
    ],
)
def test_mmmus_published_parser(reply: str, expected: int, kind: str) -> None:
    verdict = mmmu_choice([Rollout(reply, {"choice": "B", "options": ["cat", "dog"]})])[0]
    assert (verdict.score, verdict.kind) == (expected, kind)


# mathematics


@pytest.mark.parametrize(
    ("reply", "answer", "expected"),
    [
        ("5.0", {"text": "5", "answer_type": "integer"}, 1),
        ("0.6667", {"text": "0.67", "answer_type": "float", "precision": 2}, 1),
        ("0.66", {"text": "0.67", "answer_type": "float", "precision": 2}, 0),
        ("[1, 2.0]", {"text": "[1.0, 2]", "answer_type": "list"}, 1),
        ("[2, 1]", {"text": "[1, 2]", "answer_type": "list"}, 0),
        ("(B)", {"text": "green", "choices": ["blue", "green"]}, 1),
        ("green", {"text": "green", "choices": ["blue", "green"]}, 1),
        ("gren", {"text": "green", "choices": ["blue", "green"]}, 0),
        ("", {"text": "5", "answer_type": "integer"}, 0),
    ],
)
def test_mathvista(reply: str, answer: dict[str, Any], expected: int) -> None:
    assert score(mathvista_match, reply, answer) == expected


@pytest.mark.parametrize("reply", ["[{{}}]", f"[{'9' * 400}]"])
def test_a_list_that_is_none_of_numbers_is_no_failure_of_the_scorer(reply: str) -> None:
    assert score(mathvista_match, reply, {"text": "[1, 2]", "answer_type": "list"}) == 0


def test_mathvistas_nearest_choice_never_fails() -> None:
    assert score(mathvista_match, "gren", {"text": "green", "choices": ["blue", "green"]}, nearest_choice=True) == 1


def test_an_item_counts_in_each_of_its_skills(tmp_path: Path) -> None:
    metrics = numbers(
        "mathvista", benchmark("mathvista", tmp_path).load(), lambda s: gold(s) if s.task == "text" else "?"
    )
    assert (metrics["skills.algebra"], metrics["skills.geometry"], metrics["source.UniGeo"]) == (0.5, 1, 1)
    assert (metrics["category.math"], metrics["category.general-vqa"]) == (1, 0)


def test_text_only_is_not_in_mathverses_mean(tmp_path: Path) -> None:
    samples = benchmark("mathverse", tmp_path).load()
    metrics = numbers("mathverse", samples, lambda s: gold(s) if s.meta["version"] != "Text Only" else "?")
    assert (metrics["mean_of_versions"], metrics["accuracy"], metrics["text_only"]) == (1, 1, 0)
    metrics = numbers("mathverse", samples, lambda s: gold(s) if s.meta["version"] == "Text Only" else "\\boxed{-7}")
    assert (metrics["mean_of_versions"], metrics["text_only"]) == (0, 1)


@pytest.mark.parametrize(
    ("reply", "right", "exact", "rounded"),
    [("0.333", "1/3", 0, 1), ("0.004", "0.001", 0, 1), (r"\boxed{\frac{1}{3}}", "1/3", 1, 1), ("0.34", "1/3", 0, 0)],
)
def test_mathvision_compares_exactly_and_as_published_at_two_decimals(
    reply: str, right: str, exact: int, rounded: int
) -> None:
    """math-verify decides the exact form."""
    assert score(get("math_match"), reply, {"math": right}) == exact
    assert score(rounded_match, reply, {"math": right}) == rounded


@pytest.mark.parametrize(("reply", "expected"), [("B", 1), (r"\boxed{4}", 1), ("4.0000001", 1), ("A", 0), ("5", 0)])
def test_mathvision_takes_the_letter_or_the_value(reply: str, expected: int) -> None:
    assert score(letter_or_value, reply, {"choice": "B", "options": ["3", "4"]}) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (r"\boxed{\sqrt{3}}", 1),  # not the option 3 that is a part of it
        (r"\boxed{\sqrt{12}/2}", 1),
        (r"\boxed{3}", 0),
        (r"\boxed{\frac{1}{2}}", 0),
        ("It is $\\sqrt{3}$, I think", 1),
        (r"\boxed{C}", 1),
    ],
)
def test_an_option_of_mathvision_may_be_an_expression(reply: str, expected: int) -> None:
    options = ["3", r"$\frac{1}{2}$", r"$\sqrt{3}$"]
    assert score(letter_or_value, reply, {"choice": "C", "options": options}) == expected
    assert score(letter_or_value, r"\boxed{1/2}", {"choice": "B", "options": options}) == 1


def test_golds_that_are_no_plain_numbers_are_compared_at_two_decimals_too(tmp_path: Path) -> None:
    row = FIXTURES["mathvision"].rows[0]
    rows = [{**row, "id": str(i), "options": [], "answer": form} for i, form in enumerate(["2", r"\sqrt{2}", "x+1"])]
    samples = benchmark("mathvision", tmp_path, rows).load()
    assert numbers("mathvision", samples, gold)["published_2dp"] == 1
    assert numbers("mathvision", samples, lambda sample: r"\boxed{7}")["published_2dp"] == 0


# other notes about them


def test_mmmus_variant_by_mathematics_and_its_tails() -> None:
    half = {"text": ["0.5"]}
    mmmu = get("eval.benchmarks.published.mmmu:mmmu_match", math=True)
    assert mmmu([Rollout("\\boxed{1/2}", half, task="text")])[0].score == 1
    assert score(mmmu_open, "\\boxed{1/2}", half) == 0
    assert score(mmmu_open, "Therefore, the answer is blue.\nSo .", {"text": ["blue"]}) == 1  # a lone mark is no tail
    assert score(mmmu_open, "x = 7", {"text": ["7"]}) == 1  # "=" cues in the last line
    assert score(mmmu_open, "Nobody knows. It could be 12. Thus 13", {"text": ["12"]}) == 0  # no cut at sentence ends


def test_mmmu_has_30_subjects_in_6_disciplines() -> None:
    assert (len(DISCIPLINES), sum(map(len, DISCIPLINES.values()))) == (6, 30)


def test_mathvista_hints_by_type(tmp_path: Path) -> None:
    kinds = [("integer", None, "an integer"), ("float", 1.0, "1 decimal place."), ("float", 2.0, "2 decimal places."),
             ("list", None, "a Python list"), ("text", None, "a word or phrase")]  # fmt: skip
    rows = {
        str(i): {**MATHVISTA["1"], "pid": str(i), "answer_type": kind, "precision": digits}
        for i, (kind, digits, _) in enumerate(kinds)
    }
    asked = {
        s.meta["item"]: text_of(s)
        for s in benchmark("mathvista", tmp_path, {**rows, "c": {**MATHVISTA["2"], "pid": "c"}}).load()
    }
    for i, (_, _, hint) in enumerate(kinds):
        assert hint in asked[str(i)]
    assert "(unit: cm)" in asked["0"]
    assert asked["c"].endswith("(A) blue\n(B) green")


def test_mathvistas_hidden_answers_give_no_verdict() -> None:
    assert mathvista_match([Rollout("5", {"text": "", "answer_type": "integer"})])[0].kind == "abstained"
    assert score(mathvista_match, "5.9", {"text": "5", "answer_type": "integer"}) == 1  # int(float(x))


def test_the_published_parser_of_pope_reads_every_answer(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    metrics = numbers("pope", samples, lambda _: "<think>There is one")  # never ends: ours reads no answer
    assert (metrics["unparsed"], metrics["official.unparsed"], metrics["official.yes_ratio"]) == (1.0, 0.0, 1.0)
    share = sum(sample.answer["yesno"] for sample in samples) / len(samples)
    assert metrics["official.accuracy"] == metrics["official.precision"] == pytest.approx(share)
    assert metrics["official.recall"] == 1.0
