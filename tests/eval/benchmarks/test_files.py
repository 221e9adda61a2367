"""Benchmarks of several files, and those scored over a whole corpus: captions, detections, AMBER's words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_engine.schema import Sample
from eval.benchmarks import find_benchmark
from eval.benchmarks.base import BenchmarkFiles
from eval.benchmarks.caption_corpus import corpus_scores, tokenized
from eval.benchmarks.combined import combined, write_combined
from eval.benchmarks.load import benchmark_samples, metrics_of
from eval.benchmarks.published.amber import counted, words_digest, words_of
from eval.benchmarks.published.documents import submission
from eval.benchmarks.published.grounding import BENCHMARKS as GROUNDING
from eval.benchmarks.published.moments import span_f1, span_hit
from eval.export import export
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout
from rewards.parse.coco_objects import objects_named, objects_said
from tests.support.benchmarks.answers import FIXTURES, answered, benchmark, gold, numbers, write_files
from tests.support.benchmarks.description_rows import AMBER_FILES, KARPATHY, REFERENCES
from tests.support.benchmarks.fixture import png

java = pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer runs in Java")


@java
def test_caption_scores_are_those_of_pycocoevalcap() -> None:
    """The whole of its own path: tokenizer, CIDEr, BLEU and ROUGE-L over the corpus."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = ["A man, riding a wave!", "Dogs play (in the grass).", "It isn't a dog's hat"]
    references = [*REFERENCES, ["A hat.", "It is the dog's hat", "Someone's hat"]]
    golds = PTBTokenizer().tokenize({i: [{"caption": text} for text in some] for i, some in enumerate(references)})
    answers = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(captions)})
    cider, _ = Cider().compute_score(golds, answers)
    bleu, _ = Bleu(4).compute_score(golds, answers, verbose=0)
    rouge, _ = Rouge().compute_score(golds, answers)
    scores = corpus_scores(captions, references, {"": range(3)})[""]
    assert [scores[name] for name in ("cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")] == pytest.approx(
        [float(cider), *bleu, float(rouge)]
    )
    assert (scores["meteor"], scores["spice"]) == (None, None)


@java
def test_line_breaks_in_a_caption_move_none_to_another_picture() -> None:
    assert tokenized([["a\rb\u2028c\x85d\ne", ""], ["\udc00 x", "Zoo."]]) == {0: ["a b c d e", ""], 1: ["x", "zoo"]}


@java
def test_cider_is_a_number_of_the_corpus(tmp_path: Path) -> None:
    samples = benchmark("nocaps", tmp_path).load()
    metrics = numbers("nocaps", samples, gold)
    assert (metrics["cider"] or 0) > 1
    assert (metrics["in-domain.cider"], metrics["out-domain.cider"]) == (0, 0)  # one picture: every word is in all
    assert metrics["length"] == 7
    alike = [{**row, "annotations_captions": REFERENCES[0]} for row in FIXTURES["nocaps"].rows]
    assert numbers("nocaps", benchmark("nocaps", tmp_path / "b", alike).load(), gold)["cider"] == 0


def test_without_java_there_is_no_number_and_no_substitute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = benchmark("flickr30k", tmp_path).load()
    monkeypatch.setenv("PATH", str(tmp_path))
    metrics = numbers("flickr30k", samples, gold)
    assert (metrics["cider"], metrics["bleu_4"], metrics["rouge_l"], metrics["overlap"]) == (None, None, None, 1)
    assert "needs Java" in caplog.text


def test_karpathys_file_gives_its_test_split(tmp_path: Path) -> None:
    samples = benchmark("coco_karpathy", tmp_path).load()
    assert sorted(sample.meta["item"] for sample in samples) == ["0", "1"]
    with pytest.raises(InputError, match="has no reference"):
        benchmark(
            "coco_karpathy", tmp_path / "b", {**KARPATHY, "images": [{**KARPATHY["images"][0], "sentences": []}]}
        ).load()


def test_chair_takes_objects_from_instances_and_captions(tmp_path: Path) -> None:
    samples = {sample.meta["item"]: sample for sample in benchmark("chair", tmp_path).load()}
    assert samples["0"].answer == {
        "references": ["A puppy catches a frisbee.", "The dog jumps."],
        "objects": ["dog", "frisbee"],
    }
    assert samples["1"].answer["objects"] == ["dog", "person"]
    metrics = numbers("chair", list(samples.values()), lambda _: "A puppy and a person.")
    assert metrics["chair_i"] == 1 / 4  # nobody is in the first picture


def test_object_halbench_is_the_pictures_that_its_list_names(tmp_path: Path) -> None:
    files = {**FIXTURES["object_halbench"].rows, "obj_halbench.jsonl": [{"image_id": 1}]}
    assert [s.meta["item"] for s in benchmark("object_halbench", tmp_path, files).load()] == ["1"]
    with pytest.raises(InputError, match="image 7 has no"):
        benchmark("object_halbench", tmp_path / "b", {**files, "obj_halbench.jsonl": [{"image_id": 7}]}).load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A traffic light over a baby elephant", ["traffic light", "elephant"]),
        ("An adult dog and a passenger train", ["dog", "train"]),
        ("A toilet with its seat up", ["toilet"]),
        ("A seat, two puppies, puppies", ["chair", "dog", "dog"]),  # repeats stay
        ("Nothing but light", []),
    ],
)
def test_the_words_of_chair(text: str, expected: list[str]) -> None:
    assert objects_named(text) == expected


def test_words_come_with_their_class() -> None:
    assert set(objects_said("a puppy, a dog, a puppy")) == {("puppy", "dog"), ("dog", "dog")}


def test_ambers_words(tmp_path: Path) -> None:
    benchmark("amber_generative", tmp_path).load()
    lists = words_of(str(tmp_path / "rows"))
    text = "Clouds over an oak and trees; a gull, a table at the wall, and happiness."
    counts = counted(text, ["sky", "tree"], ["bird", "boat"], lists)
    # cloud and oak go with the sky and a tree, trees are listed; gull and table are wrong; walls are safe and unlisted
    assert counts == {"named": 5, "wrong": 2, "covered": 2, "imagined": 1, "truth": 2, "hallu": 2}
    assert counted("A desk.", ["sky"], [], lists)["wrong"] == 0  # safe, though it counts


def test_similar_words_stand_for_each_other_only_by_a_named_model(tmp_path: Path) -> None:
    benchmark("amber_generative", tmp_path).load()
    lists = words_of(str(tmp_path / "rows"))

    def alike(word: str, others: Any) -> str | None:
        return {"table": "tree"}.get(word) if "tree" in others else None

    assert counted("A table.", ["tree"], [], lists)["wrong"] == 1
    assert counted("A table.", ["tree"], [], lists, alike) | {} == {
        "named": 1, "wrong": 0, "covered": 1, "imagined": 0, "truth": 1, "hallu": 0
    }  # fmt: skip
    records = answered("amber_generative", benchmark("amber_generative", tmp_path).load(), gold)
    assert {json.loads(record.why["accuracy"])["similarity"] for record in records} == {"none"}


def test_ambers_generative_numbers(tmp_path: Path) -> None:
    samples = benchmark("amber_generative", tmp_path).load()
    metrics = numbers(
        "amber_generative", samples, lambda s: "The sky and a bird." if s.meta["item"] == "1" else "A ball."
    )
    assert (metrics["chair"], metrics["cover"], metrics["hal"], metrics["cog"]) == (
        pytest.approx(2 / 3), pytest.approx(1 / 3), 1, pytest.approx(2 / 3)
    )  # fmt: skip


def test_changed_word_lists_are_no_verdict(tmp_path: Path) -> None:
    samples = benchmark("amber_generative", tmp_path).load()
    words_digest.cache_clear()
    (tmp_path / "rows" / "safe_words.txt").write_text("cat\n")
    assert metrics_of(answered("amber_generative", samples, gold)) is None
    words_digest.cache_clear()


def test_ambers_official_files_are_joined_by_id(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png())
    files = write_files(
        tmp_path, {name: AMBER_FILES[name] for name in ("annotations.json", "query_discriminative.json")}
    )

    def load() -> list[Sample]:
        data = BenchmarkFiles(path=str(files))
        return benchmark_samples("amber_discriminative", data, space=CoordinateSpace.pixel, media=tmp_path).load()

    assert {(s.meta["item"], s.meta["dimension"], s.answer["yesno"]) for s in load()} == {
        ("3", "state", True), ("4", "existence", False)
    }  # fmt: skip
    (files / "annotations.json").write_text(json.dumps(AMBER_FILES["annotations.json"][:3]))
    with pytest.raises(InputError, match="has no entry for the question 4"):
        load()
    (files / "annotations.json").unlink()
    with pytest.raises(InputError, match=r"AMBER's annotations.json is not among query_discriminative.json"):
        load()


def test_the_amber_score_and_the_mean_of_refcocos_splits() -> None:
    splits = {task.name: {"accuracy": i / 10} for i, task in enumerate(GROUNDING)}
    assert combined(splits)["refcoco_mean"] == pytest.approx(0.35)
    assert combined(dict(list(splits.items())[:7])) == {}
    both: Any = {"amber_generative": {"chair": 0.084}, "amber_discriminative": {"f1": 0.747}}
    assert combined(both) == {"amber_score": pytest.approx((100 - 8.4 + 74.7) / 2)}
    assert combined({**both, "amber_generative": None}) == {}


def test_combined_numbers_are_written_beside_the_parts(tmp_path: Path) -> None:
    for name, metrics in (("amber_generative", {"chair": 0.5}), ("amber_discriminative", {"f1": 0.5})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"metrics": metrics}))
    assert write_combined(tmp_path, ["amber_generative", "amber_discriminative", "pope"]) == {"amber_score": 50}
    assert json.loads((tmp_path / "combined.json").read_text()) == {"amber_score": 50}


def test_a_submission_holds_the_answers_to_hidden_questions(tmp_path: Path) -> None:
    samples = benchmark("docvqa_test", tmp_path).load()
    records = answered("docvqa_test", samples, lambda _: "<answer>Ann</answer>")
    assert submission(records) == [{"questionId": 0, "answer": "Ann"}, {"questionId": 1, "answer": "Ann"}]
    with pytest.raises(InputError, match="unknown layout 'docvqq'"):
        export(tmp_path, "docvqq", tmp_path)


@pytest.mark.parametrize(
    ("reply", "threshold", "expected"),
    [
        ("[0, 10], [20, 30]", 0.5, 1),
        ("[0, 10]", 0.5, 2 / 3),
        ("[0, 10], [0, 10], [20, 30]", 0.5, 0.8),  # the second is no match any more
        ("[0, 5], [20, 24]", 0.5, 0.5),  # exactly half counts
        ("never", 0.5, 0),
    ],
)
def test_several_spans_are_matched_one_to_one(reply: str, threshold: float, expected: float) -> None:
    spans = {"spans": [[0, 10], [20, 30]]}
    assert span_f1([Rollout(reply, spans)], threshold=threshold)[0].score == pytest.approx(expected)


def test_a_gold_span_without_length_counts_nowhere() -> None:
    """R1 and F1 are over the same samples, and over the same spans of one."""
    for spans, expected in ([[5, 5]], None), ([[5, 5], [0, 10]], 1.0):
        rollout = Rollout("[0, 10]", {"spans": spans})
        assert span_f1([rollout], threshold=0.5)[0].score == span_hit([rollout], threshold=0.5)[0].score == expected


def test_media_paths_of_rows_stay_below_the_media_directory(tmp_path: Path) -> None:
    rows = [{"image_name": "../../secret.png", "oracle_facts": ["a"], "oracle_caption": "a"}]
    with pytest.raises(InputError, match="leads out of"):
        benchmark("decapbench", tmp_path, rows).load()


def test_every_task_that_needs_something_says_what() -> None:
    for name in ("coco_captions", "mmhal_bench", "gedit", "amber_generative", "docvqa_test"):
        assert find_benchmark(name).needs
