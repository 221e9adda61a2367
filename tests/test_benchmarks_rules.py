"""The published rules of the benchmarks and their edge cases, on replies whose scores are known."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.benchmark import BenchmarkData
from eval.benchmarks.choice import lettered
from eval.benchmarks.exams import DISCIPLINES
from eval.benchmarks.hallucination import pope_official
from eval.benchmarks.load import named_benchmark
from eval.benchmarks.metrics import binary, mean
from eval.scorers.exams import letter_or_value, mathvista_match, mmmu_choice, mmmu_open, rounded_match
from eval.scorers.spans import span_hit
from eval.scorers.vqa import contains_match, vqa_accuracy, vqa_normal
from mmrl.config import InputError
from mmrl.vision import CoordinateSpace
from rewards import Rollout, get
from tests.benchmark_rows import (
    AMBER,
    CHARTQA,
    HALLUSION,
    MATHVISTA,
    MMBENCH,
    REFCOCO,
    ROWS,
    VIDEOMME,
    answered,
    benchmark,
    gold,
    numbers,
    write_rows,
)


def score(reward: Any, reply: str, answer: Any, **options: Any) -> float | None:
    return reward([Rollout(reply, answer)], **options)[0].score


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
    found = numbers("refcoco_val", benchmark("refcoco_val", tmp_path).load(), lambda _: reply)
    assert (found["accuracy"], found["best_of_all"], found["centre"], found["unparsed"]) == (
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
    found = numbers("mmbench_en", samples, lambda s: "none" if s.meta["turn"] == 1 else gold(s))
    assert (found["circular"], found["vanilla"], found["mean_of_rotations"]) == (0, 1, pytest.approx(5 / 7))
    found = numbers(
        "mmbench_en", samples, lambda s: "?" if (s.meta["question"], s.meta["turn"]) == ("1", 2) else gold(s)
    )
    assert (found["circular"], found["category.object"], found["ability.coarse"]) == (0.5, 0.5, 0)


def test_always_the_same_letter_never_goes_round(tmp_path: Path) -> None:
    found = numbers("mmbench_en", benchmark("mmbench_en", tmp_path).load(), lambda _: "A")
    assert (found["circular"], found["vanilla"], found["mean_of_rotations"]) == (0, 0.5, pytest.approx(2 / 7))


def test_an_empty_option_column_moves_the_letters_and_not_the_answer(tmp_path: Path) -> None:
    row = {**MMBENCH[1], "C": "", "D": "cow", "answer": "D"}
    for name in ("mmbench_en", "mmbench_circular"):
        answers = [sample.answer for sample in benchmark(name, tmp_path / name, [row]).load()]
        assert {one["options"]["ABC".index(one["choice"])] for one in answers} == {"cow"}
    with pytest.raises(InputError, match="question 1: the answer is C, and filled are A, B, D"):
        benchmark("mmbench_en", tmp_path / "c", [{**row, "answer": "C"}]).load()


def test_the_hint_comes_first_and_options_follow_as_lines(tmp_path: Path) -> None:
    rows = [{**MMBENCH[0], "hint": "Look at the tail."}]
    sample = next(s for s in benchmark("mmbench_en", tmp_path, rows).load() if s.meta["turn"] == 0)
    text = sample.prompt[0]["content"][-1]["text"]
    assert text.startswith("Look at the tail.\nWhich animal is number 0?\nA. cat\nB. dog\nC. emu\nAnswer with")


def test_blink_has_a_macro_mean_over_its_tasks(tmp_path: Path) -> None:
    found = numbers(
        "blink", benchmark("blink", tmp_path).load(), lambda s: gold(s) if s.meta["subtask"] == "Jigsaw" else "?"
    )
    assert (found["macro"], found["accuracy"]) == (0.5, pytest.approx(1 / 3))


def test_scienceqa_leaves_out_rows_without_a_picture(tmp_path: Path) -> None:
    assert len(benchmark("scienceqa_img", tmp_path).load()) == 2


def test_realworldqa_compares_words_without_the_final_period(tmp_path: Path) -> None:
    found = numbers(
        "realworldqa", benchmark("realworldqa", tmp_path).load(), lambda s: "B." if s.task == "choice" else "3."
    )
    assert found["accuracy"] == 1


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
    found = numbers(
        "mathvista", benchmark("mathvista", tmp_path).load(), lambda s: gold(s) if s.task == "text" else "?"
    )
    assert (found["skills.algebra"], found["skills.geometry"], found["source.UniGeo"]) == (0.5, 1, 1)
    assert (found["category.math"], found["category.general-vqa"]) == (1, 0)


def test_text_only_is_not_in_mathverses_mean(tmp_path: Path) -> None:
    samples = benchmark("mathverse", tmp_path).load()
    found = numbers("mathverse", samples, lambda s: gold(s) if s.meta["version"] != "Text Only" else "?")
    assert (found["mean_of_versions"], found["accuracy"], found["text_only"]) == (1, 1, 0)
    found = numbers("mathverse", samples, lambda s: gold(s) if s.meta["version"] == "Text Only" else "\\boxed{-7}")
    assert (found["mean_of_versions"], found["text_only"]) == (0, 1)


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
    row = ROWS["mathvision"][0][0]
    rows = [{**row, "id": str(i), "options": [], "answer": one} for i, one in enumerate(["2", r"\sqrt{2}", "x+1"])]
    samples = benchmark("mathvision", tmp_path, rows).load()
    assert numbers("mathvision", samples, gold)["published_2dp"] == 1
    assert numbers("mathvision", samples, lambda sample: r"\boxed{7}")["published_2dp"] == 0


# documents and charts


@pytest.mark.parametrize(
    ("reply", "right", "expected"),
    [
        ("0.4", "40%", 1),
        ("40", "40%", 0),
        ("105", "100", 1),  # five per cent is still right
        ("105.1", "100", 0),
        ("0", "0", 1),
        ("0.0", "0", 0),
        ("1,500", "1500", 0),
        ("$5", "5", 0),
        ("-5", "5", 0),
        ("2019", "2010", 1),
        ("Red.", "red", 1),
    ],
)
def test_chartqa(reply: str, right: str, expected: int) -> None:
    assert score(get("relaxed_match"), reply, {"text": [right]}) == expected


def test_chartqas_variants_score_beside_the_default(tmp_path: Path) -> None:
    samples = benchmark("chartqa", tmp_path).load()
    found = numbers("chartqa", samples, lambda s: "2019." if s.meta["kind"] == "augmented_test" else "40")
    assert (found["accuracy"], found["raw"], found["strict_year"], found["lenient_number"]) == (0.5, 0.5, 0, 1)
    assert (found["kind.human_test"], found["kind.augmented_test"]) == (0, 1)


@pytest.mark.parametrize(
    ("reply", "right", "default", "legacy"),
    [
        ("paris.", "paris", 5 / 6, 5 / 6),
        ("ab", "ax", 0, 0.5),  # exactly half
        ("  Paris ", "paris", 1, 1),
        ("the paris", "paris", 5 / 9, 5 / 9),
    ],
)
def test_anls(reply: str, right: str, default: float, legacy: float) -> None:
    assert score(get("anls"), reply, {"text": [right]}) == pytest.approx(default)
    assert score(get("anls", legacy=True), reply, {"text": [right]}) == pytest.approx(legacy)


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_leaves_each_annotator_out(agreeing: int, expected: float) -> None:
    answers = ["red"] * agreeing + [f"other {i}" for i in range(10 - agreeing)]
    assert score(vqa_accuracy, "Red", {"answers": answers}) == pytest.approx(expected)


def test_vqas_published_quirk_is_a_variant() -> None:
    same = {"answers": ["red"] * 10}
    assert score(vqa_accuracy, "Red", same) == 1
    assert score(vqa_accuracy, "Red", same, variant="official") == 0
    assert score(vqa_accuracy, "Red", {"answers": ["red"] * 9 + ["blue"]}, variant="official") == 1
    assert score(vqa_accuracy, "red", {"answers": ["red"]}) == 1  # a single gold is compared exactly


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat.", "cat"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("Ten", "10"),
        ("none", "0"),
        ("dont", "don't"),
        ("the\nend", "end"),
    ],
)
def test_vqa_normalisation(text: str, expected: str) -> None:
    assert vqa_normal(text) == expected


def test_ocrbench_looks_inside_the_reply() -> None:
    assert score(contains_match, "It reads\nCENTRE here", {"text": ["centre"]}) == 1
    assert score(contains_match, "x ^ {2}", {"text": ["x^{2}"], "formula": True}) == 1
    assert score(contains_match, "X^{2}", {"text": ["x^{2}"], "formula": True}) == 0
    assert score(contains_match, "ＡＢ１", {"text": ["ab1"]}) == 0
    assert score(contains_match, "ＡＢ１", {"text": ["ab1"]}, fullwidth=True) == 1
    assert score(contains_match, "ＡＢ", {"text": ["AB"], "formula": True}, fullwidth=True) == 0


def test_ocrbench_sums_points(tmp_path: Path) -> None:
    found = numbers("ocrbench", benchmark("ocrbench", tmp_path).load(), lambda _: "the centre")
    assert (found["points"], found["points.recognition"], found["points.formulas"]) == (2, 1, 0)


# hallucination


def test_pope_counts_what_is_unparsed_as_no_yes(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    found = numbers("pope", samples, lambda s: "hm" if s.answer["yesno"] else "Yes.")
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (0, 0, 0, 0)
    assert (found["yes_ratio"], found["unparsed"], found["official.yes_ratio"]) == (0.5, 0.5, 1)
    found = numbers("pope", samples, lambda s: "no" if s.meta["category"] == "random" else gold(s))
    assert (found["random.accuracy"], found["random.recall"], found["popular.f1"]) == (0.5, 0, 1)
    assert found["mean.f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "expected"), [("No, it is.", False), ("it is not", False), ("Maybe. No.", True), ("garbage", True)]
)
def test_popes_published_parser(text: str, expected: bool) -> None:
    assert pope_official(text) is expected


def test_hallusionbench_groups_by_question_and_by_figure(tmp_path: Path) -> None:
    samples = benchmark("hallusionbench", tmp_path).load()
    assert sum(not sample.media for sample in samples) == 2  # figure 0 of VS shows nothing

    def reply(sample: Any) -> str:
        wrong = (
            sample.meta["category"] == "VS" and sample.meta["figure_id"] == "0" and sample.meta["question_id"] == "0"
        )
        return "Yes" if wrong else gold(sample)

    found = numbers("hallusionbench", samples, reply)
    assert (found["aAcc"], found["qAcc"], found["fAcc"], found["fAcc.all_figures"]) == (7 / 8, 3 / 4, 1, 3 / 4)
    assert len(HALLUSION) == 8


def test_ambers_positive_answer_is_no(tmp_path: Path) -> None:
    samples = benchmark("amber_discriminative", tmp_path).load()
    found = numbers("amber_discriminative", samples, lambda _: "No")
    assert (found["accuracy"], found["precision"], found["recall"]) == (0.5, 0.5, 1)
    assert found["official.precision"] == pytest.approx(2 / 4.001)
    assert (found["existence.accuracy"], found["state.accuracy"], found["relation.recall"]) == (0.5, 0, 1)
    lower = numbers("amber_discriminative", samples, lambda _: "no")
    assert (lower["accuracy"], lower["official.accuracy"]) == (0.5, 0)  # published: exactly Yes or No


def test_chair_counts_mentions_and_captions(tmp_path: Path) -> None:
    samples = benchmark("chair", tmp_path).load()
    first = samples[0].id
    found = numbers("chair", samples, lambda s: "A dog, a cat and a cat." if s.id == first else "Nothing much.")
    assert (found["chair_i"], found["chair_s"]) == (pytest.approx(2 / 3), 0.5)
    assert found["recall"] == 1 / 4  # a dog in both pictures, a frisbee in one, people in the other
    assert found["length"] == 4.5
    silent = numbers("chair", samples, lambda _: "Nothing.")
    assert (silent["chair_i"], silent["chair_s"]) == (None, 0)  # no mention at all is clean


# video


def test_mvbench_finds_the_letter_of_the_answers_text_and_cuts_the_video(tmp_path: Path) -> None:
    samples = benchmark("mvbench", tmp_path).load()
    assert {sample.answer["choice"] for sample in samples} == {"B"}
    assert {(sample.media[0].start, sample.media[0].end) for sample in samples} == {(0.2, 1.4), (None, None)}
    found = numbers("mvbench", samples, lambda s: "B" if s.meta["task_type"] == "Action Count" else "")
    assert (found["macro"], found["accuracy"]) == (0.5, 0.5)  # empty replies stay in the denominator


def test_mvbenchs_files_say_which_task_they_are(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "task_type"} for row in ROWS["mvbench"][0]]
    for name in ("action_count", "state_change"):
        write_rows(tmp_path / "json", rows, "json", name)
    data = BenchmarkData(path=str(tmp_path / "json"))
    samples = named_benchmark("mvbench", data, space=CoordinateSpace.pixel, media=tmp_path).load()
    assert sorted({sample.meta["task_type"] for sample in samples}) == ["action_count", "state_change"]
    assert len(samples) == 4


def test_moments_of_one_caption_may_begin_together(tmp_path: Path) -> None:
    rows = [{"video": "clip.mp4", "caption": "a man runs", "timestamp": [0.0, end]} for end in (1.0, 2.0)]
    assert len(benchmark("activitynet_captions", tmp_path, rows).load()) == 2


def test_options_that_cannot_be_told_apart_refuse_no_benchmark(tmp_path: Path) -> None:
    question = "Which?\nOptions: A: one, B: two, C:3, D:4"
    row = {**ROWS["mmstar"][0][0], "question": question, "answer": "D"}
    assert benchmark("mmstar", tmp_path, [row]).load()[0].answer["choice"] == "D"
    assert lettered("A: one, B: two", "D") == [f"option {letter}" for letter in "ABCD"]


def test_videomme_reports_by_duration(tmp_path: Path) -> None:
    samples = benchmark("videomme", tmp_path).load()
    found = numbers("videomme", samples, lambda s: gold(s) if s.meta["duration"] == "short" else "?")
    assert (found["duration.short"], found["duration.long"], found["accuracy"]) == (1, 0, 0.5)


@pytest.mark.parametrize("reply", ["B", "B. right", "right", "(B)"])
def test_tempcompass_reads_letters_and_option_lines(tmp_path: Path, reply: str) -> None:
    chosen = [s for s in benchmark("tempcompass", tmp_path).load() if s.meta["kind"] == "choice"]
    assert [record.scores["accuracy"] for record in answered("tempcompass", chosen, lambda _: reply)] == [1]


@pytest.mark.parametrize(
    ("reply", "overlap"),
    [("[0.4, 1.6]", 1), ("[1.6, 0.4]", 1), ("from 0.4 to 1.0 seconds", 0.5), ("0:00 - 0:01", 0.6 / 1.6), ("[5, 6]", 0)],
)
def test_temporal_overlap(reply: str, overlap: float) -> None:
    spans = {"spans": [[0.4, 1.6]]}
    assert score(get("span_iou"), reply, spans) == pytest.approx(overlap)
    assert score(span_hit, reply, spans, threshold=0.5) == float(overlap >= 0.5)


def test_failures_count_nothing_in_the_mean_overlap(tmp_path: Path) -> None:
    samples = benchmark("charades_sta", tmp_path).load()
    found = numbers("charades_sta", samples, lambda s: gold(s) if s.id == samples[0].id else "never")
    assert (found["mIoU"], found["R1@0.7"], found["unparsed"]) == (0.5, 0.5, 0.5)


def test_an_unclosed_thought_is_no_answer(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    found = numbers("pope", samples, lambda s: f"<think>{gold(s)}")
    assert (found["accuracy"], found["unparsed"]) == (0, 1)
    assert numbers("pope", samples, lambda s: f"no yes</think>{gold(s)}")["accuracy"] == 1


# what else is written about them


def test_mmmus_variant_by_mathematics_and_its_tails() -> None:
    half = {"text": ["0.5"]}
    mmmu = get("eval.scorers.tasks:mmmu", math=True)
    assert mmmu([Rollout("\\boxed{1/2}", half, task="text")])[0].score == 1
    assert score(mmmu_open, "\\boxed{1/2}", half) == 0
    assert score(mmmu_open, "Therefore, the answer is blue.\nSo .", {"text": ["blue"]}) == 1  # a lone mark is no tail
    assert score(mmmu_open, "x = 7", {"text": ["7"]}) == 1  # "=" cues in the last line
    assert score(mmmu_open, "Nobody knows. It could be 12. Thus 13", {"text": ["12"]}) == 0  # no cut at sentence ends


def test_mmmu_has_30_subjects_in_6_disciplines() -> None:
    assert (len(DISCIPLINES), sum(map(len, DISCIPLINES.values()))) == (6, 30)


def text_of(sample: Any) -> str:
    return sample.prompt[0]["content"][-1]["text"]


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


def test_chartqas_answers_may_be_lists_of_one(tmp_path: Path) -> None:
    samples = benchmark("chartqa", tmp_path, [{**row, "answer": [row["answer"]]} for row in CHARTQA]).load()
    assert sorted(sample.answer["text"][0] for sample in samples) == ["2010", "40%"]


def test_docvqa_takes_the_best_of_its_answers(tmp_path: Path) -> None:
    found = numbers("docvqa", benchmark("docvqa", tmp_path).load(), lambda _: "a. lee")
    assert (found["accuracy"], found["kind.handwritten"]) == (1, 1)


def test_textvqas_evalai_form_drops_commas_and_splits_genitives() -> None:
    golds = {"answers": ["joe 's, bar?"] * 9 + ["x"]}
    assert score(vqa_accuracy, "Joe's bar", golds, variant="evalai") == pytest.approx(1)
    assert score(vqa_accuracy, "Joe's bar", golds) == 0


def test_vqa_with_fewer_annotators_leaves_out_of_what_is_there() -> None:
    assert score(vqa_accuracy, "red", {"answers": ["red", "red", "blue"]}) == pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)


def test_subtitles_come_first_and_are_reported_apart(tmp_path: Path) -> None:
    rows = [{**VIDEOMME[0], "subtitles": "Hello there."}, {**VIDEOMME[1], "subtitles": ""}]
    samples = benchmark("videomme", tmp_path, rows).load()
    assert sorted(text_of(sample).startswith("Subtitles:\nHello there.") for sample in samples) == [False, True]
    found = numbers("videomme", samples, gold)
    assert (found["subtitles.with"], found["subtitles.without"]) == (1, 1)


def test_a_video_that_does_not_decode_is_a_failure_and_no_skip(tmp_path: Path) -> None:
    made = benchmark("videomme", tmp_path)
    clip = tmp_path / "rows" / "clip.mp4"
    clip.write_bytes(clip.read_bytes()[:900])
    with pytest.raises(InputError, match=r"clip\.mp4"):
        made.load()


def test_ambers_attributes_are_reported_together(tmp_path: Path) -> None:
    rows = [
        {**AMBER[0], "id": i, "type": f"discriminative-attribute-{kind}", "truth": truth}
        for i, (kind, truth) in enumerate([("state", "no"), ("number", "no"), ("action", "yes")])
    ]
    found = numbers("amber_discriminative", benchmark("amber_discriminative", tmp_path, rows).load(), lambda _: "No")
    assert (found["attribute.precision"], found["attribute.recall"]) == (pytest.approx(2 / 3), 1)
    assert (found["state.accuracy"], found["action.accuracy"]) == (1, 0)


def test_another_number_of_items_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    benchmark("refcoco_testA", tmp_path).load()
    assert "refcoco_testA has 4 items here, 5657 as published" in caplog.text


def test_groups_without_items_are_left_out_and_nothing_has_no_mean() -> None:
    assert mean([None, None]) is None
    assert binary([], positive=True)["accuracy"] is None
    one = binary([(False, False)], positive=True)
    assert (one["accuracy"], one["recall"], one["f1"]) == (1, None, None)
