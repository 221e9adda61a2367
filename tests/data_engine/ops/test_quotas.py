"""Quotas one can count: whole numbers, shortage, repeats, and one division inside another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.dataset.shards import read_manifest, write_dataset
from data_engine.engine.pipeline import run
from data_engine.operator import Dropped
from data_engine.ops import OPERATORS
from data_engine.ops.quotas import Division, Shortage, filled, largest_remainder, quota, times_shown
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.trainers.dataset import training_samples
from tests.data_engine.ops.test_operators import ask as about
from tests.data_engine.ops.test_operators import ends


def test_quotas_are_met_and_a_shortage_is_filled_or_left_or_refused() -> None:
    samples = [about(f"{number}?", source="ab"[number >= 20]) for number in range(24)]

    def kept(shortage: Shortage) -> Counter[str]:
        ending = quota(iter(samples), n=12, by="source", shares={"a": 1, "b": 1}, shortage=shortage)
        return Counter(outcome.source for outcome in ending if not isinstance(outcome, Dropped))

    assert kept("fill") == {"a": 8, "b": 4}
    assert kept("short") == {"a": 6, "b": 4}
    with pytest.raises(InputError, match=r"too few samples by source: \{'b': '4 of 6'\}"):
        kept("fail")


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 50), min_size=1), st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_whole_numbers_sum_to_the_total(shares: dict[str, float], n: int) -> None:
    counts = largest_remainder(n, shares)
    assert sum(counts.values()) == n
    assert all(abs(counts[value] - n * share / sum(shares.values())) < 1 for value, share in shares.items())
    there = {value: int(share) for value, share in shares.items()}
    got = filled(n, shares, there)
    assert sum(got.values()) == min(n, sum(there.values()))
    assert all(got[value] <= there[value] for value in got)


def levelled(task: str, level: str, count: int) -> list[Sample]:
    noted = {"difficulty": {"level": level}}
    answer = {"yesno": True} if task == "yesno" else {"number": 1.0}
    return [about(f"{level} {task} {n}?", task=task, answer=answer, meta=noted) for n in range(count)]


def level_counts(samples: Sequence[Sample]) -> Counter[tuple[str, str]]:
    """How often training shows samples of each task and level."""
    counts = Counter[tuple[str, str]]()
    for sample in samples:
        counts[sample.task, sample.meta["difficulty"]["level"]] += sample.meta.get("repeat", 1)
    return counts


POOL = [
    *levelled("yesno", "hard", 4),
    *levelled("yesno", "easy", 20),
    *levelled("count", "hard", 30),
    *levelled("count", "easy", 30),
    *levelled("count", "medium", 9),
]


def mixed(**options: Any) -> Counter[tuple[str, str]]:
    levels = [Division(by="difficulty", shares={"hard": 2, "easy": 1})]
    kept, dropped = ends(quota(iter(POOL), n=36, by="task", shares={"yesno": 1, "count": 1}, then=levels, **options))
    assert len(kept) + dropped.total() == len(POOL)
    assert dropped["not_in_quota"] == 9  # medium has no share
    return level_counts(kept)


def test_levels_are_divided_within_their_task() -> None:
    count = {("count", "hard"): 12, ("count", "easy"): 6}
    assert mixed() == {("yesno", "hard"): 4, ("yesno", "easy"): 14} | count
    assert mixed(shortage="short") == {("yesno", "hard"): 4, ("yesno", "easy"): 6} | count
    assert mixed(repeat=2) == {("yesno", "hard"): 8, ("yesno", "easy"): 10} | count
    assert mixed(repeat=3) == {("yesno", "hard"): 12, ("yesno", "easy"): 6} | count
    with pytest.raises(InputError, match=r"task yesno, by difficulty: \{'hard': '4 of 12'\}"):
        mixed(shortage="fail")


def test_equal_and_natural_shares_follow_the_pool() -> None:
    def of_count(shares: Any) -> Counter[tuple[str, str]]:
        levels = [Division(by="difficulty", shares=shares)]
        return level_counts(ends(quota(iter(POOL), n=23, by="task", shares={"count": 1}, then=levels))[0])

    assert of_count("natural") == {("count", "hard"): 10, ("count", "easy"): 10, ("count", "medium"): 3}
    assert of_count("equal") == {("count", "hard"): 8, ("count", "easy"): 8, ("count", "medium"): 7}


def test_a_repeated_sample_is_one_row_and_is_trained_on_as_often(tmp_path: Path) -> None:
    pool = [replace(sample, meta={"split": "train"}) for sample in levelled("yesno", "hard", 4)]
    kept, _ = ends(quota(iter(pool), n=10, by="task", shares={"yesno": 1}, repeat=3))
    assert sorted(sample.meta.get("repeat", 1) for sample in kept) == [2, 2, 3, 3]
    assert write_dataset(kept, tmp_path / "data")["counts"]["kept"] == 4
    trained = training_samples(tmp_path / "data", "train")
    assert Counter(sample.id for sample in trained) == {sample.id: sample.meta["repeat"] for sample in kept}
    assert len(ends(quota(iter(pool), n=10, by="task", shares={"yesno": 1}))[0]) == 4


def test_the_last_quota_sets_repeats_and_row_counters_come_before() -> None:
    pool = [
        replace(sample, meta={"repeat": repeat}) for sample, repeat in zip(POOL, (3, "often", None) * 31, strict=True)
    ]
    assert [times_shown(sample) for sample in pool[:3]] == [3, 1, 1]
    kept, _ = ends(quota(iter(pool), n=10, by="task", shares={"yesno": 1}))
    assert [times_shown(sample) for sample in kept] == [1] * 10
    twice = {"fn": "quota", "args": {"n": 10, "by": "task", "shares": {"number": 1}, "repeat": 2}}
    once = {"fn": "quota", "args": {**twice["args"], "repeat": 1}}
    for fn, args in (
        ("sample", {"n": 5}),
        ("balance", {"by": ["task"], "cap": 5}),
        ("mix", {"weights": {"numbers": 1}}),
    ):
        planned(twice, once, {"fn": fn, "args": args})
        with pytest.raises(InputError, match=f"{fn} counts each sample once, but an operator before it repeats some"):
            planned(once, twice, {"fn": "shuffle"}, {"fn": fn, "args": args})
    with pytest.raises(InputError, match="mix counts each sample once"):
        planned(twice, mix={"numbers": 1})


def test_the_mix_keeps_the_order_of_a_curriculum() -> None:
    last = planned({"fn": "is_odd"}, {"fn": "curriculum"}, mix={"numbers": 1})
    assert last == ["validate", "is_odd", "mix", "curriculum"]
    with pytest.raises(InputError, match=r"make curriculum the last operator, after tests\.support\.lab:is_odd"):
        planned({"fn": "curriculum"}, {"fn": "is_odd"}, mix={"numbers": 1})


def planned(*operators: dict[str, Any], mix: dict[str, float] | None = None) -> list[str]:
    """The names of the stages."""
    specs = [
        {**operator, "fn": operator["fn"] if operator["fn"] in OPERATORS else f"tests.support.lab:{operator['fn']}"}
        for operator in operators
    ]
    sources = [{"fn": "tests.support.lab:numbers", "args": {"n": 9}}]
    made = {"sources": sources, "operators": [{"fn": "validate"}, *specs], "mix": mix}
    return [stage.name for stage in plan(Recipe.model_validate(made)).stages]


def test_shares_of_answers_are_in_plain_words_and_yaml_may_read_them_otherwise() -> None:
    args = {"n": 4, "by": "answer", "shares": {True: 1, False: 1, 3: 2}}
    made = {"sources": [{"fn": "tests.support.lab:numbers", "args": {"n": 9}}]}
    made["operators"] = [{"fn": "validate"}, {"fn": "quota", "args": args}]
    options = plan(Recipe.model_validate(made)).stages[1].args
    assert options["shares"] == {"yes": 1, "no": 1, "3": 2}
    answers = [{"yesno": True}, {"yesno": False}, {"yesno": True}, {"number": 3.0}, {"number": 3.0}, {"number": 4.0}]
    tasks = ["yesno"] * 3 + ["count"] * 3
    samples = [about(f"{n}?", task=task, answer=answers[n]) for n, task in enumerate(tasks)]
    kept, dropped = ends(quota(iter(samples), **options))
    assert (len(kept), dropped) == (4, {"over_quota": 1, "not_in_quota": 1})


def test_names_that_no_sample_can_have_are_refused() -> None:
    args = {"n": 4, "by": "task", "shares": {"yes_no": 1}}
    with pytest.raises(InputError, match="unknown task 'yes_no'; did you mean yesno"):
        planned({"fn": "quota", "args": args})
    by_source = {**args, "by": "source", "shares": {"a": 1}, "then": [{"by": "task", "shares": {"yes_no": 1}}]}
    with pytest.raises(InputError, match="unknown task 'yes_no'; did you mean yesno"):
        planned({"fn": "quota", "args": by_source})
    hard = [replace(sample, meta={"difficulty": "hard"}) for sample in POOL]
    with pytest.raises(InputError, match="keeps nothing: no sample has the difficulty hard, or any"):
        list(quota(iter(hard), n=4, by="difficulty", shares={"hard": 1}))
    with pytest.raises(InputError, match="no sample has the source web; there are s"):
        list(quota(iter(hard), n=4, by="source", shares={"web": 1}))


def test_the_manifest_lists_requested_and_actual_shares(tmp_path: Path) -> None:
    levels = [{"by": "source", "shares": {"a": 3, "b": 1}}]
    args = {"n": 16, "by": "task", "shares": {"number": 1}, "then": levels, "repeat": 2}
    sources = [{"fn": "tests.support.lab:numbers", "args": {"n": n}, "name": name} for name, n in (("a", 4), ("b", 9))]
    made = {"sources": sources, "operators": [{"fn": "validate"}, {"fn": "quota", "args": args}]}
    run(Recipe.model_validate(made), out=tmp_path / "out")
    task, source = read_manifest(tmp_path / "out")["mix"]
    assert (task["by"], task["requested_samples"], task["achieved_samples"]) == ("task", {"number": 16}, {"number": 16})
    assert (source["by"], source["requested"]) == ("source within task number", {"a": 0.75, "b": 0.25})
    assert (source["requested_samples"], source["achieved_samples"]) == ({"a": 12, "b": 4}, {"a": 8, "b": 8})
    assert "source within task number" in (tmp_path / "out" / "report.html").read_text()
