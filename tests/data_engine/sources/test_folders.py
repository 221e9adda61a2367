"""Image folders and EasyVQA become questions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources.easy_vqa import COLOURS, SHAPES, easy_vqa
from data_engine.sources.folders import image_folder
from tests.support.rows import reasons


def test_an_image_folder_asks_for_the_class(photos: Path) -> None:
    for name, file in (("building", "china.jpg"), ("plant", "flower.jpg")):
        (photos / "classes" / name).mkdir(parents=True)
        (photos / file).rename(photos / "classes" / name / file)
    (photos / "classes" / "loose.jpg").write_bytes(b"")
    (photos / "classes" / "plant" / "notes.txt").write_text("")
    items = list(image_folder(path="classes", root=photos))
    assert reasons(items) == ["choice", "no_class", "choice", "not_an_image"]
    assert isinstance(items[0], Sample)
    answer = items[0].answer
    assert answer["options"]["AB".index(answer["choice"])] == "building"


def test_a_linked_class_is_read_and_one_from_outside_is_refused(photos: Path) -> None:
    for name, file in (("building", "china.jpg"), ("plant", "flower.jpg")):
        (photos / "classes" / name).mkdir(parents=True)
        (photos / file).rename(photos / "classes" / name / file)
    (photos / "else").mkdir()
    (photos / "else" / "a.jpg").write_bytes(b"never read")
    (photos / "classes" / "else").symlink_to(photos / "else")
    (photos / "classes" / "flower").symlink_to("plant")
    (photos / "classes" / "plant" / "round").symlink_to("..")
    items = list(image_folder(path="classes", root=photos))
    places = [item.meta["where"] for item in items if isinstance(item, Sample)]
    assert places == [f"classes/{file}" for file in ("building/china.jpg", "flower/flower.jpg", "plant/flower.jpg")]
    broken = [(item.reason, item.where) for item in items if isinstance(item, Quarantined)]
    assert broken == [("outside_root", "classes/else")]


def test_easy_vqa_gives_yes_no_and_choice_questions() -> None:
    samples = list(easy_vqa(split="test"))
    assert len(samples) == 9673
    yesno, choice = ([s for s in samples if s.task == task] for task in ("yesno", "choice"))
    assert len(yesno) == 7136
    assert len(yesno) + len(choice) == len(samples)
    for sample in choice:
        options = sample.answer["options"]
        assert set(options) == set(SHAPES) or (len(options) == 4 and set(options) <= set(COLOURS))
        assert sample.prompt[0]["content"][1]["text"].endswith(
            "\n".join(f"{x}. {o}" for x, o in zip("ABCD", options, strict=False))
        )
    letters = [sample.answer["choice"] for sample in choice if len(sample.answer["options"]) == 4]
    assert all(0.2 < letters.count(x) / len(letters) < 0.3 for x in "ABCD")  # the place of the answer tells nothing


def test_balanced_easy_vqa_asks_each_question_of_as_many_pictures_with_either_answer() -> None:
    samples = list(easy_vqa(split="test", balanced=True))
    closed = Counter(
        (sample.prompt[0]["content"][1]["text"], sample.answer["yesno"]) for sample in samples if sample.task == "yesno"
    )
    assert closed.total() == 2492
    assert all(closed[question, True] == closed[question, False] for question, _ in closed)
    every = easy_vqa(split="test")
    assert [one for one in samples if one.task == "choice"] == [one for one in every if one.task == "choice"]


def test_easy_vqa_tells_what_a_picture_shows() -> None:
    told = {sample.meta["rationale"] for sample in easy_vqa(split="test")}
    assert "teal triangle" in told
    assert all(set(words.split()) <= {*COLOURS, *SHAPES} and len(words.split()) <= 2 for words in told)


def test_easy_vqa_options_depend_on_the_question_and_the_seed_only() -> None:
    first, again, other = (list(easy_vqa(split="test", seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    texts = [sample for sample in easy_vqa(split="test", open_questions="text") if sample.task == "text"]
    assert all(sample.answer["text"][0] in SHAPES + COLOURS for sample in texts)
