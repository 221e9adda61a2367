"""A student that learns from a teacher's labels beside a training, and answers for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from transformers import LlamaForCausalLM

from rewards import Rollout, Verdict, get
from rewards.composed.labels import MOST, RIDGES, Labels, learned, settle
from rewards.composed.student import asked
from tests.support.heads import tiny_head

WORDS = ("yes", "no", "the 7 is here", "I see two digits", "new", "A B C", "what", "which is visible")
HERE = {"device": "cpu", "at_least": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_head(LlamaForCausalLM, tmp_path_factory.mktemp("language"))


class Teacher:
    """Likes answers that begin with yes; notes what it was asked, and may be made to wait."""

    def __init__(self) -> None:
        self.asked: list[Rollout] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        assert self.free.wait(30)
        self.asked += rollouts
        return [Verdict(float(rollout.completion.startswith("yes"))) for rollout in rollouts]


def step(number: int | None, groups: int = 4) -> list[Rollout]:
    """Groups of two answers of a step, one of which begins with yes."""
    return [
        Rollout(f"{begin}{WORDS[(group + (number or 0)) % len(WORDS)]}", prompt=f"{group}?", group=group, step=number)
        for group in range(groups)
        for begin in ("yes ", "not ")
    ]


def student(teacher: Any, model: str, place: Path, **more: Any) -> Any:
    return get("student", teacher=teacher, model=model, labels=str(place), **{**HERE, **more})


def labels(place: Path) -> list[dict[str, Any]]:
    settle()
    return [json.loads(line) for line in (place / "rank-0.jsonl").read_text().splitlines()]


def test_it_learns_what_the_teacher_says_and_answers_for_groups_that_nobody_asked_about(
    model: str, tmp_path: Path
) -> None:
    teacher = Teacher()
    reward = student(teacher, model, tmp_path, share=0.5)
    said = [reward(step(number)) for number in range(6)]
    settle()
    shares = [asked(rollout.step or 0, rollout.group, 0.5) for number in range(6) for rollout in step(number)]
    assert [(one.step, one.group) for one in teacher.asked] == [
        (rollout.step, rollout.group)
        for rollout, chosen in zip([one for number in range(6) for one in step(number)], shares, strict=True)
        if chosen
    ]
    assert 0 < sum(shares) < len(shares)
    assert all(first.score > second.score for first, second in zip(said[-1][::2], said[-1][1::2], strict=True))


def test_before_enough_labels_nothing_has_a_verdict_and_all_groups_of_a_step_have_one_version(
    model: str, tmp_path: Path
) -> None:
    reward = student(Teacher(), model, tmp_path, share=1.0, every=2, at_least=10)
    why = [{verdict.why for verdict in reward(step(number))} for number in range(6)]
    assert why == [
        {"no student yet: 0 of 10 labels"},
        {"no student yet: 0 of 10 labels"},
        {"student of step 2, 16 labels"},
        {"student of step 2, 16 labels"},
        {"student of step 4, 32 labels"},
        {"student of step 4, 32 labels"},
    ]
    assert [verdict.kind for verdict in student(Teacher(), model, tmp_path / "new")(step(0))] == ["abstained"] * 8


def test_nobody_waits_for_the_teacher_before_the_next_version(model: str, tmp_path: Path) -> None:
    teacher = Teacher()
    reward = student(teacher, model, tmp_path, share=1.0, every=2)
    teacher.free.clear()
    reward(step(0))
    reward(step(1))
    assert teacher.asked == []
    threading.Timer(0.2, teacher.free.set).start()
    assert reward(step(2))[0].why == "student of step 2, 16 labels"


def test_all_that_was_asked_is_in_the_folder_and_answers_outside_of_a_training(model: str, tmp_path: Path) -> None:
    reward = student(Teacher(), model, tmp_path, share=1.0)
    said = [verdict for number in range(3) for verdict in reward(step(number))]
    lines = labels(tmp_path)
    assert [line["student"] for line in lines] == [verdict.score for verdict in said]
    assert [line["score"] for line in lines] == [1.0, 0.0] * 12
    assert (lines[-1]["said"], lines[-1]["kind"]) == ("student of step 2, 16 labels", "scored")
    alone = student(Teacher(), model, tmp_path)(step(None))
    assert alone[0].why == "student of step inf, 24 labels"
    assert alone[0].score > alone[1].score


def test_a_run_that_goes_on_asks_about_nothing_twice_and_says_the_same(model: str, tmp_path: Path) -> None:
    """Stopped amid a line, two steps after its checkpoint."""
    first = student(Teacher(), model, tmp_path / "whole", share=0.5)
    whole = [[verdict.score for verdict in first(step(number))] for number in range(6)]
    expected = labels(tmp_path / "whole")
    kept = [json.dumps(line) for line in expected if line["step"] < 4]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "rank-0.jsonl").write_text("\n".join(kept) + "\n" + kept[0][:20])
    teacher = Teacher()
    again = student(teacher, model, tmp_path / "broken", share=0.5)
    assert [[verdict.score for verdict in again(step(number))] for number in range(2, 6)] == whole[2:]
    assert labels(tmp_path / "broken") == expected
    assert {one.step for one in teacher.asked} == {4, 5}


def test_a_new_run_begins_without_labels_and_one_that_goes_on_needs_them(model: str, tmp_path: Path) -> None:
    student(Teacher(), model, tmp_path / "a", share=1.0)(step(0))
    settle()
    assert student(Teacher(), model, tmp_path / "a", share=1.0)(step(0))[0].why == "no student yet: 0 of 4 labels"
    assert len(labels(tmp_path / "a")) == 8
    missing = student(Teacher(), model, tmp_path / "b")(step(3))[0]
    assert (missing.kind, "the labels of the steps before are gone" in missing.why) == ("failed", True)


def test_a_teacher_that_fails_is_told(model: str, tmp_path: Path) -> None:
    def broken(rollouts: Sequence[Rollout]) -> list[Verdict]:
        return [Verdict(None, "no judge", "failed")] * len(rollouts)

    reward = student(broken, model, tmp_path, share=1.0)
    verdicts = [reward(step(number))[0] for number in range(2)]
    assert [verdict.kind for verdict in verdicts] == ["abstained", "failed"]
    assert verdicts[1].why == "the teacher failed on 8 of 8: no judge"


def test_an_answer_without_words_is_not_asked_about(model: str, tmp_path: Path) -> None:
    reward = student(Teacher(), model, tmp_path, share=1.0)
    blank = [replace(rollout, completion=" ") for rollout in step(0)]
    assert [verdict.kind for verdict in reward(blank)] == ["unparsed"] * 8
    assert labels(tmp_path) == []


def test_a_process_waits_for_the_labels_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    both = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        both.append(Labels(tmp_path, Teacher()))
        both[-1].begin(0)
    first, second = both
    second.ask([(replace(step(0)[0], completion="yes"), np.ones(2), Verdict(None))])
    timer = threading.Timer(0.2, lambda: second.version(1, every=1))
    timer.start()
    found = first.version(1, every=1)
    timer.join()
    assert (found.labels, found.mean) == (1, 1.0)


def test_the_ridge_is_the_one_of_least_error_on_labels_left_out() -> None:
    """As found by leaving each label out in turn."""
    drawn = np.random.default_rng(0)
    states = drawn.normal(size=(20, 6)) + 3
    scores = states[:, 0] + drawn.normal(0, 0.5, 20)
    total = float(((states - states.mean(0)) ** 2).sum())

    def fitted(at: Any, ridge: float) -> Any:
        x, y = states[at] - states[at].mean(0), scores[at] - scores[at].mean()
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(6), x.T @ y)
        return weights, scores[at].mean() - states[at].mean(0) @ weights

    def error(ridge: float) -> float:
        total = 0.0
        for left in range(20):
            weights, constant = fitted(np.arange(20) != left, ridge)
            total += float(scores[left] - states[left] @ weights - constant) ** 2
        return total

    best = min(RIDGES * total, key=error)
    weights, _ = learned(states, scores)
    assert_allclose(weights, fitted(np.arange(20), best)[0], rtol=1e-6)


def test_it_learns_from_the_newest_labels_and_keeps_to_their_range(tmp_path: Path) -> None:
    kept = Labels(tmp_path, Teacher())
    kept.begin(0)
    old = [(Rollout("not", group=i), np.array([float(i)]), Verdict(None)) for i in range(MOST)]
    kept.ask(old)
    kept.begin(1)
    kept.ask([(Rollout("yes", group=i), np.array([float(i)]), Verdict(None)) for i in range(MOST)])
    found = kept.version(2, every=1)
    assert (found.labels, found.mean, found.score(np.array([1e9]))) == (2 * MOST, 1.0, 1.0)
