"""Difficulty: bands on counts and variances, draws that go only where they matter, samples chosen by them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_engine.dataset.shards import write_dataset
from data_engine.measure.bands import Counts, Spread, is_decided, moments, odds
from data_engine.measure.difficulty_table import Difficulty, key_of, read_difficulty, write_difficulty
from data_engine.operator import Dropped
from data_engine.ops.difficulty import by_reward, curriculum, difficulty, noted
from data_engine.schema import Sample, user_prompt, with_id
from eval.difficulty import DifficultyConfig, measured, of_run
from eval.records import read_records
from eval.run import EvalConfig, run
from mmrl.commands.data import app
from mmrl.commands.terminal import difficulty_table
from mmrl.core.config import InputError, load, validate
from tests.eval.test_backends import chat
from tests.support.judge_server import Reply, serving


def numbers(count: int, source: str = "s") -> list[Sample]:
    """Questions with the answers 0, 1, 2, ..."""
    return [
        with_id(Sample("", source, "number", user_prompt(f"say {n}"), {"number": float(n)}, meta={"split": "train"}))
        for n in range(count)
    ]


def row(sample: Sample, right: int, n: int = 8, **changes: Any) -> Difficulty:
    scores = [1.0] * right + [0.0] * (n - right)
    mean, variance = moments(scores)
    values: dict[str, Any] = {"reward": "accuracy", "draws": n, "n": n, "right": right, "threshold": 0.5}
    values |= {"mean": mean, "variance": variance, "graded": False, "truncated": 0, "chance": 0.0}
    values |= {"model": "m", "sampling": "{}", "protocol": "p", "scorer": "s", "version": "0"}
    about = {"key": key_of(sample), "id": sample.id, "task": sample.task, "source": sample.source}
    return Difficulty(**about, **(values | changes))


def ends(samples: list[Sample], rows: list[Difficulty], folder: Path, **options: Any) -> list[str]:
    """How each sample ends: kept, or the reason why it is dropped."""
    write_difficulty(rows, folder / "difficulty.parquet")
    outcomes = difficulty(iter(samples), file=folder / "difficulty.parquet", **options)
    return [outcome.reason if isinstance(outcome, Dropped) else "kept" for outcome in outcomes]


@given(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6), st.sampled_from([0.0, 0.25, 0.5]))
def test_the_odds_of_a_band_are_those_of_counting_urns(n: int, low: int, high: int, chance: float) -> None:
    """Every rate equally likely means every order of ranks is: draws are right if they rank below the unseen rate."""
    low, high = sorted((low, high))
    band, of = Counts(least=low, most=high, of=6), 6
    ends: dict[int, Counter[str]] = {right: Counter() for right in range(n + 1)}
    for rate in range(of + 1):  # the rank of the rate among the draws, each as likely; which draws are below is free
        for below in itertools.combinations(range(of), rate):
            weight = 1 / len(list(itertools.combinations(range(of), rate)))
            right = sum(place < n for place in below)
            first, last = band.bounds(chance)
            side = "below" if rate < first else "above" if rate > last else "within"
            ends[right][side] += weight  # pyright: ignore[reportArgumentType]
    for right, sides in ends.items():
        total = sum(sides.values())
        for name, probability in odds(right, n, band, chance)._asdict().items():
            assert probability == pytest.approx(sides[name] / total)


def test_bounds_are_whole_numbers_without_the_guesses() -> None:
    band = Counts(least=1, most=7, of=8)
    assert band.bounds() == (1, 7)
    assert band.bounds(0.25) == (3, 7)  # 8 / 4 guesses, and an eighth of the other six
    assert Counts(least=2, most=14, of=16).bounds(0.5) == (9, 15)
    with pytest.raises(InputError, match="0 <= least <= most <= of"):
        validate(Counts, {"least": 3, "most": 2, "of": 8}, where="band")
    with pytest.raises(InputError, match="3 right of 9 draws, but the band is of 8"):
        odds(3, 9, band)


def test_samples_are_undecided_only_while_more_draws_may_change_them() -> None:
    band = Counts(least=1, most=7, of=8)
    assert [is_decided(band, [0.0] * (4 - k) + [1.0] * k, k, 0.0, 0.95) for k in range(5)] == [0, 1, 1, 1, 0]
    assert is_decided(band, [0.0] * 8, 0, 0.0, 0.95)
    assert not is_decided(band, [], 0, 0.0, 0.95)
    spread = Spread(least=0.0025)
    assert not is_decided(spread, [0.0] * 8, 0, 0.0, 0.95)  # alike so far
    assert is_decided(spread, [0.1, 0.6, 0.3, 0.9], 2, 0.0, 0.95)
    assert not is_decided(spread, [0.1, 0.2, 0.15, 0.1], 0, 0.0, 0.95)


def test_samples_outside_of_their_band_are_dropped_with_the_reason(tmp_path: Path) -> None:
    samples = numbers(8)
    rows = [
        row(samples[0], 0),
        row(samples[1], 1),
        row(samples[2], 7),
        row(samples[3], 8),
        row(samples[4], 2, chance=0.25),  # as many as guessing gives
        row(samples[5], 3, truncated=5),
        row(samples[6], 0, mean=None, variance=None),
    ]
    options = {"counts": Counts(least=1, most=7, of=8), "max_truncated": 0.5}
    reasons = ["too_hard", "kept", "kept", "too_easy", "guessed", "truncated", "unscored", "no_difficulty"]
    assert ends(samples, rows, tmp_path, **options) == reasons
    assert ends(samples, rows, tmp_path, **options, chance_corrected=False)[4] == "kept"
    assert ends(samples, rows, tmp_path, missing="keep")[-1] == "kept"
    with pytest.raises(InputError, match="has no row for sample"):
        ends(samples, rows, tmp_path, missing="fail")


def test_graded_scores_go_by_their_variance(tmp_path: Path) -> None:
    samples = numbers(4)
    graded = [(0.1, 0.0), (0.5, 0.04), (0.95, 0.01), (0.5, 0.2)]
    rows = [
        row(sample, 4, graded=True, mean=mean, variance=variance)
        for sample, (mean, variance) in zip(samples, graded, strict=True)
    ]
    spread = Spread(least=0.0025, most=0.1, high=0.9)
    assert ends(samples, rows, tmp_path, spread=spread) == ["too_even", "kept", "too_easy", "too_varied"]
    counted = {"number": Counts(least=4, most=4, of=8)}
    assert ends(samples, rows, tmp_path, spread=spread, bands=counted) == ["kept"] * 4


def test_with_fewer_draws_the_likelier_side_of_the_band_counts(tmp_path: Path) -> None:
    samples = numbers(3)
    rows = [row(sample, right, n=4) for sample, right in zip(samples, (0, 2, 4), strict=True)]
    assert ends(samples, rows, tmp_path, counts=Counts(least=1, most=7, of=8)) == ["too_hard", "kept", "too_easy"]
    assert ends(samples, rows, tmp_path, counts=Counts(least=1, most=15, of=16))[0] == "kept"


def test_difficulty_is_known_under_another_source_and_noted(tmp_path: Path) -> None:
    (sample,), (renamed,) = numbers(1), numbers(1, "renamed")
    write_difficulty([row(sample, 2)], tmp_path / "d.parquet")
    (outcome,) = difficulty(iter([renamed]), file=Path("d.parquet"), root=tmp_path)
    assert isinstance(outcome, Sample)
    note = {"n": 8, "right": 2, "model": "m", "reward": "accuracy", "mean": 0.25, "variance": 0.2143}
    assert noted(outcome) == note | {"rate": 0.25, "level": "hard"}


def test_the_worst_answered_are_kept_and_the_order_goes_from_easy_to_hard(tmp_path: Path) -> None:
    samples = numbers(9)
    write_difficulty([row(sample, right) for right, sample in enumerate(samples)], tmp_path / "d.parquet")
    known = list(difficulty(iter(samples), file=tmp_path / "d.parquet"))
    kept = {name: _asked(by_reward(_iter(known), n=3, keep=name)) for name in ("lowest", "middle", "highest")}
    assert kept == {"lowest": [0, 1, 2], "middle": [3, 4, 5], "highest": [6, 7, 8]}
    assert _asked(curriculum(_iter(known), steps=9)) == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert _asked(curriculum(_iter(known), steps=9, first="hard")) == list(range(9))
    thirds = _asked(curriculum(_iter(known), steps=3))
    assert [sorted(thirds[at : at + 3]) for at in (0, 3, 6)] == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
    with pytest.raises(InputError, match="put difficulty before it"):
        list(by_reward(iter(samples), n=3))


def test_a_count_of_zero_does_not_bound_where_guessing_is_right(tmp_path: Path) -> None:
    samples = numbers(2)
    rows = [row(samples[0], 0, chance=0.5), row(samples[1], 8, chance=0.5)]
    assert ends(samples, rows, tmp_path, counts=Counts(least=0, most=7, of=8)) == ["kept", "too_easy"]


def test_what_a_source_calls_difficulty_is_not_ours() -> None:
    samples = [
        replace(sample, meta={"difficulty": note}) for note in ("hard", {"mean": "high"}) for sample in numbers(3)
    ]
    assert sorted(_asked(curriculum(iter(samples)))) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match="put difficulty before it"):
        list(by_reward(iter(samples), n=3))


def _iter(outcomes: list[Any]) -> Any:
    return iter([outcome for outcome in outcomes if isinstance(outcome, Sample)])


def _asked(outcomes: Any) -> list[int]:
    return [int(outcome.answer["number"]) for outcome in outcomes if isinstance(outcome, Sample)]


def answers(samples: list[Sample], right: list[set[int]], draws: int, place: Path) -> Path:
    """A file of responses: for each sample, the draws that are right."""
    lines = [
        {"id": sample.id, "draw": draw, "response": f"<answer>{sample.answer['number'] if draw in ok else -1}</answer>"}
        for sample, ok in zip(samples, right, strict=True)
        for draw in range(draws)
    ]
    place.write_text("\n".join(map(json.dumps, lines)))
    return place


def test_draws_go_only_to_samples_that_are_open_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    samples = numbers(4)
    write_dataset(samples, tmp_path / "data")
    right = [set(range(8)), {0, 2}, {7}, set()]
    values = {
        "model": str(answers(samples, right, 8, tmp_path / "answers.jsonl")),
        "engine": "replay",
        "data": {"path": str(tmp_path / "data")},
        "out": str(tmp_path / "out"),
        "space": "pixel",
        "rounds": [2, 4, 8],
    }
    config = validate(DifficultyConfig, values, where="test")
    by_id = {row.id: row for row in measured(config)}
    assert [(by_id[sample.id].n, by_id[sample.id].right) for sample in samples] == [(8, 8), (2, 1), (8, 1), (8, 0)]
    assert by_id[samples[1].id].variance == 0.5
    assert len(read_records(tmp_path / "out")) == 26
    first = (tmp_path / "out" / "difficulty.parquet").read_bytes()
    lines = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "records.jsonl").write_bytes(b"".join(lines[:11]))
    measured(config)
    assert (tmp_path / "out" / "difficulty.parquet").read_bytes() == first
    kept = list(difficulty(iter(samples), file=tmp_path / "out" / "difficulty.parquet", counts=Counts()))
    assert [getattr(sample, "reason", "kept") for sample in kept] == ["too_easy", "kept", "kept", "too_hard"]


def test_the_records_of_an_evaluation_tell_as_much(tmp_path: Path) -> None:
    samples = numbers(3)
    write_dataset(samples, tmp_path / "data")
    file = answers(samples, [{0, 1}, {1}, set()], 2, tmp_path / "answers.jsonl")
    values = {
        "model": str(file),
        "engine": "replay",
        "data": {"path": str(tmp_path / "data"), "split": "train"},
        "out": str(tmp_path / "run"),
        "space": "pixel",
        "sampling": {"do_sample": True, "samples": 2, "temperature": 0.7},
        "rewards": {"exact": {"fn": "number_match"}, "form": {"fn": "tag_format", "weight": 0.2}},
    }
    run(validate(EvalConfig, values, where="test"))
    command = ["difficulty", str(tmp_path / "run"), "--out", str(tmp_path / "d.parquet")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = {row.id: row for row in read_difficulty(tmp_path / "d.parquet").values()}
    assert [rows[sample.id].right for sample in samples] == [2, 1, 0]
    assert {row.reward for row in rows.values()} == {"exact"}
    assert json.loads(rows[samples[0].id].sampling)["temperature"] == 0.7
    assert {row.graded for row in of_run(tmp_path / "run", "total")} == {True}
    with pytest.raises(InputError, match="unknown reward 'exakt' to decide on difficulty; did you mean exact"):
        of_run(tmp_path / "run", "exakt")
    again = ["difficulty", str(tmp_path / "run"), "--reward", "form", "right=0.9", "--out", str(tmp_path / "f.parquet")]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert {(row.reward, row.threshold) for row in read_difficulty(tmp_path / "f.parquet").values()} == {("form", 0.9)}
    with pytest.raises(InputError, match="unknown key nonsense"):
        CliRunner().invoke(app, [*command, "nonsense=1"], catch_exceptions=False)
    other = [*command[:-1], str(tmp_path / "other.parquet")]
    assert CliRunner().invoke(app, other, env={"RANK": "1", "WORLD_SIZE": "2"}).exit_code == 0
    assert not (tmp_path / "other.parquet").exists()  # the main process writes


def test_the_reward_that_decides_is_checked_before_draws_are_made(tmp_path: Path) -> None:
    samples = numbers(2)
    write_dataset(samples, tmp_path / "data")
    file = answers(samples, [{0}, set()], 2, tmp_path / "answers.jsonl")
    values = {"model": str(file), "engine": "replay", "data": {"path": str(tmp_path / "data")}, "space": "pixel"}
    (tmp_path / "c.yaml").write_text(json.dumps({**values, "out": str(tmp_path / "out"), "rounds": [2]}))
    command = ["difficulty", str(tmp_path / "c.yaml"), "--reward"]
    with pytest.raises(InputError, match="unknown reward 'nosuchreward' to decide"):
        CliRunner().invoke(app, [*command, "nosuchreward"], catch_exceptions=False)
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(app, [*command, "number"]).exit_code == 0


def test_samples_without_a_score_are_shown_apart() -> None:
    sample, other = numbers(2)
    table = difficulty_table([row(sample, 0), replace(row(other, 0), n=0, mean=None, variance=None)])
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert (cells["none right"], cells["no score"], cells["some"]) == (["50.0%"], ["50.0%"], ["0.0%"])


def test_files_and_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read as a difficulty file"):
        read_difficulty(tmp_path / "d.parquet")
    base: dict[str, Any] = {"model": "m", "data": {"path": "d"}, "out": "o"}
    for wrong, message in (
        ({"rounds": [8, 4]}, "must rise"),
        ({"sampling": {"do_sample": False}}, "greedy draws are all the same"),
        ({"rounds": [4, 16]}, "a band of 8 draws, but rounds go to 16"),
        ({"sampling": {"do_sample": True, "samples": 4}}, "`rounds` says how many"),
        ({"blind": True}, "blind draws do not say how hard"),
    ):
        with pytest.raises(InputError, match=message):
            validate(DifficultyConfig, base | wrong, where="test")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "configs" / "difficulty").glob("*.yaml")))
def test_the_configs_are_valid(path: Path) -> None:
    assert load(DifficultyConfig, path).rounds
    assert path.read_text().startswith(f"# mmrl data difficulty configs/difficulty/{path.name}")


def replaying(folder: Path, samples: list[Sample], answers: list[dict[str, Any]], **settings: Any) -> DifficultyConfig:
    """Difficulty of samples by answers that were given elsewhere; what is written goes to `folder/out`."""
    write_dataset(samples, folder / "data")
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    values = {
        "model": str(folder / "answers.jsonl"),
        "engine": "replay",
        "data": {"path": str(folder / "data")},
        "out": str(folder / "out"),
        "space": "pixel",
    }
    return validate(DifficultyConfig, values | settings, where="test")


def test_hard_examples_are_those_of_lowest_bleu_of_one_greedy_answer(tmp_path: Path) -> None:
    gold = "a red bus stands next to the old stone bridge"
    texts = [gold, "a bus stands next to the bridge", "a red bus", "two dogs play"]
    samples = [
        with_id(Sample("", "s", "caption", user_prompt(f"{n}: describe"), {"references": [gold]}, meta={"n": n}))
        for n in range(4)
    ]
    lines = [
        {"id": sample.id, "response": f"<answer>{text}</answer>"} for sample, text in zip(samples, texts, strict=True)
    ]
    settings = {"sampling": {"do_sample": False}, "rounds": [1], "rewards": {"bleu": {"fn": "bleu"}}}
    rows = measured(replaying(tmp_path, samples, lines, **settings))
    assert {row.reward for row in rows} == {"bleu"}
    known = list(difficulty(iter(samples), file=tmp_path / "out" / "difficulty.parquet"))
    means = [noted(sample)["mean"] for sample in known if isinstance(sample, Sample)]
    assert means == sorted(means, reverse=True)
    kept = [sample.meta["n"] for sample in by_reward(_iter(known), n=2) if isinstance(sample, Sample)]
    assert kept == [2, 3]


def test_a_server_is_asked_for_more_draws_only_where_they_matter(tmp_path: Path) -> None:
    samples = numbers(3)
    write_dataset(samples, tmp_path / "data")
    draws = Counter[str]()

    def answer(body: dict[str, Any]) -> Reply:
        asked = json.dumps(body["messages"])
        number = next(n for n in range(3) if f"say {n}" in asked)
        draws[f"say {number}"] += 1
        return chat(f"<answer>{number if number != 1 or draws['say 1'] % 2 else 9}</answer>")

    with serving(answer) as server:
        values = {"model": "served", "engine": "openai", "server": {"base_url": server.url}, "space": "pixel"}
        values |= {"data": {"path": str(tmp_path / "data")}, "out": str(tmp_path / "out")}
        rows = {row.id: row for row in measured(validate(DifficultyConfig, values, where="test"))}
    assert [(rows[sample.id].n, rows[sample.id].right) for sample in samples] == [(8, 8), (4, 2), (8, 8)]
    assert draws == {"say 0": 8, "say 1": 4, "say 2": 8}
