"""Probes of a head, on states that one can check by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eval.preferences.labelled import LabelledAnswer, labelled_answers
from eval.preferences.probes import DECAY, probe, probed
from mmrl.core.config import InputError
from rewards import Rollout


def answer(held_out: bool, **classes: int) -> LabelledAnswer:
    return LabelledAnswer(Rollout(""), classes, str(held_out), held_out)


def rollouts_file(place: Path, *rows: dict[str, Any]) -> Path:
    place.write_text("".join(json.dumps({"answer": None, "completion": "a", **row}) + "\n" for row in rows))
    return place


def test_an_answer_further_from_all_centroids_than_tau_is_left_out() -> None:
    """The centroids (0, 0) and (3, 4): (1, 1) is 1.4142136 from the nearer one, (6, 8) is 5 (2511.12464)."""
    answers = [answer(False, good=0), answer(False, good=1), answer(True, good=0), answer(True, good=0)]
    found = probed(answers, np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [6.0, 8.0]]), tau=2.0)
    [row] = found["dimensions"]
    assert (found["left_out"], row["left_out"], row["distance"]) == (0.5, 0.5, pytest.approx((1.4142136 + 5) / 2))
    assert [place["states"] for place in found["centroids"]] == [[[0.0, 0.0]], [[3.0, 4.0]]]


def test_unsure_answers_are_the_wrong_ones_where_states_say_so() -> None:
    """Both classes lie in clumps. What lies far behind the wrong one is named wrongly, and left out."""
    drawn = np.random.default_rng(0)
    near = np.concatenate([drawn.normal([4, 1], 0.1, (20, 2)), drawn.normal([1, 4], 0.1, (20, 2))])
    states = np.concatenate([near, near, [[20.0, 1.0]] * 5])
    labels = [0] * 20 + [1] * 20
    answers = [answer(held, good=label) for held in (False, True) for label in labels] + [answer(True, good=1)] * 5
    found = probed(answers, states)
    [row] = found["dimensions"]
    assert (row["mean"], row["sure"]) == (pytest.approx(40 / 45), 1.0)
    assert 5 / 45 <= row["left_out"] < 0.2
    assert found["curve"][0]["accuracy"] < found["curve"][5]["accuracy"] == 1.0


def test_a_dimension_that_states_do_not_hold_is_no_better_than_its_most_frequent_class() -> None:
    drawn = np.random.default_rng(1)
    states = drawn.normal(size=(400, 3))
    answers = [answer(i >= 200, held=int(x > 0), other=int(drawn.random() < 0.5)) for i, x in enumerate(states[:, 0])]
    rows = {row["dimension"]: row for row in probed(answers, states)["dimensions"]}
    assert rows["held"]["mean"] > 0.95
    assert abs(rows["other"]["mean"] - 0.5) < 0.1


def test_several_centroids_of_a_class_find_its_clumps() -> None:
    clumps = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    states = np.repeat(clumps, 6, axis=0)
    answers = [answer(i % 2 == 1, good=int(i >= 12)) for i in range(18)]
    found = probed(answers, states, centroids=2)
    assert sorted(found["centroids"][0]["states"]) == [[0.0, 0.0], [10.0, 0.0]]
    assert found["dimensions"][0]["distance"] == 0


def test_a_probe_is_the_linear_layer_of_least_cross_entropy() -> None:
    """As scikit-learn finds it."""
    drawn = np.random.default_rng(2)
    states, classes = drawn.normal(size=(90, 4)), drawn.integers(3, size=90)
    other = LogisticRegression(C=1 / (90 * DECAY), fit_intercept=False, tol=1e-8).fit(states, classes)
    centred = probe(states, classes, 3)
    np.testing.assert_allclose(centred - centred.mean(0), other.coef_ - other.coef_.mean(0), atol=1e-2)


def test_answers_to_one_question_are_on_one_side(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i // 4}?", "meta": {"labels": {"good": i % 2}}} for i in range(80)]
    found = labelled_answers(rollouts_file(tmp_path / "a.jsonl", *rows))
    sides = {(one.cluster, one.held_out) for one in found}
    assert len(sides) == len({cluster for cluster, _ in sides}) == 20
    assert 0.1 < np.mean([one.held_out for one in found]) < 0.5


def test_the_preferred_candidate_is_of_class_1(tmp_path: Path) -> None:
    line = {"prompt": "?", "candidates": ["a", "b", "c"], "preferred": 1, "dimension": "polite"}
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    found = labelled_answers(tmp_path / "p.jsonl")
    assert [(one.rollout.completion, one.classes) for one in found] == [
        ("a", {"polite": 0}), ("b", {"polite": 1}), ("c", {"polite": 0}),
    ]  # fmt: skip


def test_a_file_is_told_by_the_keys_of_its_first_line(tmp_path: Path) -> None:
    row = {"meta": {"labels": {"good": 1}, "candidates": 2}}
    assert [one.classes for one in labelled_answers(rollouts_file(tmp_path / "a.jsonl", row))] == [{"good": 1}]
    (tmp_path / "b.jsonl").write_text("not JSON\n")
    with pytest.raises(InputError, match=r"b\.jsonl:1: not a JSON object"):
        labelled_answers(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(InputError, match=r"c\.jsonl holds no labelled answers"):
        labelled_answers(tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "has the meta.labels None; wanted the number of a class in each dimension"),
        ({}, "has the meta.labels {}"),
        ({"good": "yes"}, "has the meta.labels {'good': 'yes'}"),
        ({"good": True}, "has the meta.labels {'good': True}"),
        ({"all": 1}, "has the dimension 'all', which stands for all of them"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, message: str, tmp_path: Path) -> None:
    file = rollouts_file(tmp_path / "a.jsonl", {"id": "x", "meta": {"labels": labels}})
    with pytest.raises(InputError, match=f"answer 'x' {message}"):
        labelled_answers(file)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer(False, good=1), answer(True, good=0)], "dimension good: the answers to learn from are of 1 class,"),
        ([answer(True, good=1), answer(True, good=0)], "are of 0 classes"),
        ([answer(False, good=1), answer(False, good=0)], "dimension good: no answer is held out"),
    ],
)
def test_dimensions_that_cannot_be_probed_are_refused(answers: list[LabelledAnswer], message: str) -> None:
    with pytest.raises(InputError, match=message):
        probed(answers, np.eye(2))
