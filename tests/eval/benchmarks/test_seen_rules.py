"""The published rules of benchmarks of documents, hallucination and video, on replies whose scores are known."""

from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks.base import BenchmarkFiles
from eval.benchmarks.load import benchmark_samples
from eval.benchmarks.metrics import binary, mean
from eval.benchmarks.published.choice import lettered
from eval.benchmarks.published.documents import contains_match
from eval.benchmarks.published.hallucination import pope_official
from eval.benchmarks.published.moments import span_hit
from eval.benchmarks.published.vqa import vqa_accuracy, vqa_normal
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards import get
from tests.support.benchmarks.answers import FIXTURES, answered, benchmark, gold, numbers, score, text_of, write_rows
from tests.support.benchmarks.choice_rows import AMBER, HALLUSION, VIDEOMME
from tests.support.benchmarks.text_rows import CHARTQA


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
    metrics = numbers("chartqa", samples, lambda s: "2019." if s.meta["kind"] == "augmented_test" else "40")
    assert (metrics["accuracy"], metrics["raw"], metrics["strict_year"], metrics["lenient_number"]) == (0.5, 0.5, 0, 1)
    assert (metrics["kind.human_test"], metrics["kind.augmented_test"]) == (0, 1)


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
    metrics = numbers("ocrbench", benchmark("ocrbench", tmp_path).load(), lambda _: "the centre")
    assert (metrics["points"], metrics["points.recognition"], metrics["points.formulas"]) == (2, 1, 0)


def test_pope_counts_what_is_unparsed_as_no_yes(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    metrics = numbers("pope", samples, lambda s: "hm" if s.answer["yesno"] else "Yes.")
    assert (metrics["accuracy"], metrics["precision"], metrics["recall"], metrics["f1"]) == (0, 0, 0, 0)
    assert (metrics["yes_ratio"], metrics["unparsed"], metrics["official.yes_ratio"]) == (0.5, 0.5, 1)
    metrics = numbers("pope", samples, lambda s: "no" if s.meta["category"] == "random" else gold(s))
    assert (metrics["random.accuracy"], metrics["random.recall"], metrics["popular.f1"]) == (0.5, 0, 1)
    assert metrics["mean.f1"] == pytest.approx(2 / 3)


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

    metrics = numbers("hallusionbench", samples, reply)
    assert (metrics["aAcc"], metrics["qAcc"], metrics["fAcc"], metrics["fAcc.all_figures"]) == (7 / 8, 3 / 4, 1, 3 / 4)
    assert len(HALLUSION) == 8


def test_ambers_positive_answer_is_no(tmp_path: Path) -> None:
    samples = benchmark("amber_discriminative", tmp_path).load()
    metrics = numbers("amber_discriminative", samples, lambda _: "No")
    assert (metrics["accuracy"], metrics["precision"], metrics["recall"]) == (0.5, 0.5, 1)
    assert metrics["official.precision"] == pytest.approx(2 / 4.001)
    assert (metrics["existence.accuracy"], metrics["state.accuracy"], metrics["relation.recall"]) == (0.5, 0, 1)
    lower = numbers("amber_discriminative", samples, lambda _: "no")
    assert (lower["accuracy"], lower["official.accuracy"]) == (0.5, 0)  # published: exactly Yes or No


def test_chair_counts_mentions_and_captions(tmp_path: Path) -> None:
    samples = benchmark("chair", tmp_path).load()
    first = samples[0].id
    metrics = numbers("chair", samples, lambda s: "A dog, a cat and a cat." if s.id == first else "Nothing much.")
    assert (metrics["chair_i"], metrics["chair_s"]) == (pytest.approx(2 / 3), 0.5)
    assert metrics["recall"] == 1 / 4  # a dog in both pictures, a frisbee in one, people in the other
    assert metrics["length"] == 4.5
    silent = numbers("chair", samples, lambda _: "Nothing.")
    assert (silent["chair_i"], silent["chair_s"]) == (None, 0)  # no mention at all is clean


def test_mvbench_finds_the_letter_of_the_answers_text_and_cuts_the_video(tmp_path: Path) -> None:
    samples = benchmark("mvbench", tmp_path).load()
    assert {sample.answer["choice"] for sample in samples} == {"B"}
    assert {(sample.media[0].start, sample.media[0].end) for sample in samples} == {(0.2, 1.4), (None, None)}
    metrics = numbers("mvbench", samples, lambda s: "B" if s.meta["task_type"] == "Action Count" else "")
    assert (metrics["macro"], metrics["accuracy"]) == (0.5, 0.5)  # empty replies stay in the denominator


def test_mvbenchs_files_say_which_task_they_are(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "task_type"} for row in FIXTURES["mvbench"].rows]
    for name in ("action_count", "state_change"):
        write_rows(tmp_path / "json", rows, "json", name)
    data = BenchmarkFiles(path=str(tmp_path / "json"))
    samples = benchmark_samples("mvbench", data, space=CoordinateSpace.pixel, media=tmp_path).load()
    assert sorted({sample.meta["task_type"] for sample in samples}) == ["action_count", "state_change"]
    assert len(samples) == 4


def test_moments_of_one_caption_may_begin_together(tmp_path: Path) -> None:
    rows = [{"video": "clip.mp4", "caption": "a man runs", "timestamp": [0.0, end]} for end in (1.0, 2.0)]
    assert len(benchmark("activitynet_captions", tmp_path, rows).load()) == 2


def test_options_that_cannot_be_told_apart_refuse_no_benchmark(tmp_path: Path) -> None:
    question = "Which?\nOptions: A: one, B: two, C:3, D:4"
    row = {**FIXTURES["mmstar"].rows[0], "question": question, "answer": "D"}
    assert benchmark("mmstar", tmp_path, [row]).load()[0].answer["choice"] == "D"
    assert lettered("A: one, B: two", "D") == [f"option {letter}" for letter in "ABCD"]


def test_videomme_reports_by_duration(tmp_path: Path) -> None:
    samples = benchmark("videomme", tmp_path).load()
    metrics = numbers("videomme", samples, lambda s: gold(s) if s.meta["duration"] == "short" else "?")
    assert (metrics["duration.short"], metrics["duration.long"], metrics["accuracy"]) == (1, 0, 0.5)


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
    metrics = numbers("charades_sta", samples, lambda s: gold(s) if s.id == samples[0].id else "never")
    assert (metrics["mIoU"], metrics["R1@0.7"], metrics["unparsed"]) == (0.5, 0.5, 0.5)


def test_an_unclosed_thought_is_no_answer(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    metrics = numbers("pope", samples, lambda s: f"<think>{gold(s)}")
    assert (metrics["accuracy"], metrics["unparsed"]) == (0, 1)
    assert numbers("pope", samples, lambda s: f"no yes</think>{gold(s)}")["accuracy"] == 1


def test_chartqas_answers_may_be_lists_of_one(tmp_path: Path) -> None:
    samples = benchmark("chartqa", tmp_path, [{**row, "answer": [row["answer"]]} for row in CHARTQA]).load()
    assert sorted(sample.answer["text"][0] for sample in samples) == ["2010", "40%"]


def test_docvqa_takes_the_best_of_its_answers(tmp_path: Path) -> None:
    metrics = numbers("docvqa", benchmark("docvqa", tmp_path).load(), lambda _: "a. lee")
    assert (metrics["accuracy"], metrics["kind.handwritten"]) == (1, 1)


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
    metrics = numbers("videomme", samples, gold)
    assert (metrics["subtitles.with"], metrics["subtitles.without"]) == (1, 1)


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
    metrics = numbers("amber_discriminative", benchmark("amber_discriminative", tmp_path, rows).load(), lambda _: "No")
    assert (metrics["attribute.precision"], metrics["attribute.recall"]) == (pytest.approx(2 / 3), 1)
    assert (metrics["state.accuracy"], metrics["action.accuracy"]) == (1, 0)


def test_another_number_of_items_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    benchmark("refcoco_testA", tmp_path).load()
    assert "refcoco_testA has 4 items here, 5657 as published" in caplog.text


def test_groups_without_items_are_left_out_and_nothing_has_no_mean() -> None:
    assert mean([None, None]) is None
    assert binary([], positive=True)["accuracy"] is None
    single = binary([(False, False)], positive=True)
    assert (single["accuracy"], single["recall"], single["f1"]) == (1, None, None)
