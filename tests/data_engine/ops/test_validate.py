"""Validation: for every check a broken file or row, and for every mode how it ends."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from data_engine.engine.pipeline import run
from data_engine.operator import Dropped, Quarantined
from data_engine.ops.validate import REWRITTEN, unique_ids, validate
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample, with_id
from data_engine.validate.checks import CHECKS, Mode
from data_engine.validate.fault import Limits
from mmrl.core.config import InputError
from mmrl.core.config import validate as configured
from mmrl.core.media.image import facts_in, load_image
from mmrl.core.media.item import Media
from tests.support.faulty import (
    FAULTY,
    HEIGHT,
    LIMITS,
    SECONDS,
    WHOLE,
    WIDTH,
    answered,
    boxed,
    chosen,
    sample,
    saved,
    timed,
)

Outcome = Sample | Dropped | Quarantined
MODES: tuple[Mode, ...] = get_args(Mode)
QUIET: dict[str, Mode] = {
    code: "keep" for code in CHECKS if not CHECKS[code].needed
}  # no check but the one that is tested
OF_SOURCES = {"outside_root", "unread_media", "no_object"}  # seen where rows are read, not by `validate`


def allowed(code: str) -> list[Mode]:
    """The modes that a check can have."""
    unfit = {mode for mode, never in (("keep", CHECKS[code].needed), ("fix", not CHECKS[code].fix)) if never}
    return [mode for mode in MODES if mode not in unfit]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    """The broken sample of a check, made once."""
    return functools.cache(lambda code: FAULTY[code](tmp_path_factory.mktemp(code)))


def checked(broken: Sample, code: str, mode: Mode | None, others: dict[str, Mode] | None = None) -> Outcome:
    modes: dict[str, Mode] = {**(others or {}), **({code: mode} if mode else {})}
    return validate(broken, modes=modes, limits=Limits.model_validate(LIMITS.get(code, {})))


def test_there_is_a_broken_sample_for_every_check() -> None:
    missing = CHECKS.keys() - FAULTY.keys() - OF_SOURCES
    assert not missing, f"tests/support/faulty.py, FAULTY: add a broken sample for {sorted(missing)}"
    unknown = FAULTY.keys() - CHECKS.keys()
    assert not unknown, f"data_engine/validate/checks.py, CHECKS: add a row for {sorted(unknown)}"
    assert isinstance(validate(sample()), Sample)


@pytest.mark.parametrize("code", FAULTY)
def test_a_fault_is_found_and_goes_its_usual_way(code: str, faulty: Callable[[str], Sample]) -> None:
    outcome, mode = checked(faulty(code), code, None), CHECKS[code].mode
    if mode in ("keep", "fix"):
        assert isinstance(outcome, Sample), outcome
        assert outcome.meta.get("fixed", []) == ([code] if mode == "fix" else [])
    else:
        assert isinstance(outcome, Dropped if mode == "drop" else Quarantined)
        assert outcome.reason == code


@pytest.mark.parametrize(("code", "mode"), [(code, mode) for code in FAULTY for mode in allowed(code)])
def test_every_mode_does_what_it_says(code: str, mode: Mode, faulty: Callable[[str], Sample]) -> None:
    broken = faulty(code)
    if mode == "fail":
        with pytest.raises(InputError, match=f"{code}, and its mode is fail: "):
            checked(broken, code, mode, QUIET)
        return
    outcome = checked(broken, code, mode, QUIET)
    if mode == "quarantine":
        assert isinstance(outcome, Quarantined)
        assert (outcome.reason, outcome.source) == (code, broken.source)
        assert len(outcome.why) > 20
    elif mode == "drop":
        assert isinstance(outcome, Dropped)
        assert outcome.reason == code
    else:
        assert isinstance(outcome, Sample), outcome
        assert outcome.meta.get("fixed", []) == ([code] if mode == "fix" else [])
        if mode == "fix":  # then it is found no more
            assert isinstance(checked(outcome, code, "quarantine", QUIET), Sample)


@pytest.mark.parametrize("code", CHECKS)
def test_a_mode_that_cannot_be_is_refused_before_any_work(code: str) -> None:
    for mode in set(MODES) - set(allowed(code)):
        spec = {"fn": "validate", "args": {"modes": {code: mode}}}
        with pytest.raises(InputError, match=f"{code} cannot be {'kept' if mode == 'keep' else 'fixed'}"):
            plan(
                configured(
                    Recipe, {"sources": [{"fn": "digits_count", "args": {"n": 1}}], "operators": [spec]}, where=""
                )
            )


@pytest.mark.parametrize("code", REWRITTEN)
def test_a_picture_is_rewritten_as_it_is_shown(code: str, faulty: Callable[[str], Sample]) -> None:
    broken = faulty(code)
    fixed = checked(broken, code, "fix")
    assert isinstance(fixed, Sample)
    (made,), (before,) = fixed.media, broken.media
    assert made.bytes is not None
    assert facts_in(io.BytesIO(made.bytes), made.bytes) == {}
    assert load_image(made).tobytes() == load_image(before).tobytes()
    assert (made.width, made.height) == load_image(before).size


MENDED = {
    "size_mismatch": {"boxes": [[20, 20, 40, 40]]},
    "box_xywh": {"boxes": [[60, 30, 80, 40], [5, 5, 95, 65]]},
    "box_order": {"boxes": [[60, 10, 119, 40]]},
    "box_over_edge": {"boxes": [[50, 20, WIDTH, 40]]},
    "box_outside": {"boxes": [[50, 20, WIDTH, 40]]},
    "box_repeated": {"boxes": [[1, 2, 30, 40], [5, 6, 70, 60]], "labels": ["a", "b"]},
    "span_order": {"spans": [[0.5, 1.5]]},
    "span_over_end": {"spans": [[1, 2]]},
}


@pytest.mark.parametrize("code", MENDED)
def test_places_are_mended_without_guessing(code: str, faulty: Callable[[str], Sample]) -> None:
    fixed = checked(faulty(code), code, "fix")
    assert isinstance(fixed, Sample)
    assert fixed.answer == MENDED[code]


@pytest.mark.parametrize(
    ("limits", "modes", "reason"),
    [
        ({}, {}, "outside"),
        ({"over_edge": 3, "over_end": 0.9}, {}, "outside"),
        ({"over_edge": 5, "over_end": 2}, {"box_over_edge": "keep", "span_over_end": "keep"}, ""),
    ],
)
def test_every_check_of_places_obeys_the_limits(
    limits: dict[str, float], modes: dict[str, Mode], reason: str, tmp_path: Path
) -> None:
    """Places 4 pixels over the edge and a second behind the end: kept as they are only where both are allowed."""
    over = {
        "box": boxed(tmp_path, [50, 20, WIDTH + 4, 40]),
        "point": replace(boxed(tmp_path), task="point", answer={"points": [[5, HEIGHT + 4]]}),
        "span": timed(tmp_path, [1, SECONDS + 1]),
    }
    for place, broken in over.items():
        outcome = validate(broken, modes=modes, limits=Limits.model_validate(limits))
        assert getattr(outcome, "reason", "") == (reason and f"{place}_{reason}")
        if not reason:
            assert isinstance(outcome, Sample)
            assert outcome.answer == broken.answer


def test_control_characters_are_taken_out_of_questions_and_answers(faulty: Callable[[str], Sample]) -> None:
    fixed = validate(faulty("control_characters"))
    assert isinstance(fixed, Sample)
    assert fixed.prompt[0]["content"][0]["text"] == "Is it day?"
    fixed = validate(answered("What is\tit\nlike?", "\ufeffParis"))
    assert isinstance(fixed, Sample)
    assert fixed.answer == {"text": ["Paris"]}
    assert fixed.prompt[0]["content"][0]["text"] == "What is\tit\nlike?"


def test_a_split_is_named_so_that_a_shard_can_have_the_name() -> None:
    for given, expected in (("in-domain", "in_domain"), (None, None), ("test.hard", "test.hard")):
        outcome = validate(sample(meta={"split": given}))
        assert isinstance(outcome, Sample)
        assert outcome.meta.get("split") == expected
    outcome = validate(sample(meta={"split": 3}))
    assert isinstance(outcome, Quarantined)
    assert outcome.reason == "bad_split"


def test_what_would_be_a_guess_is_not_mended(tmp_path: Path) -> None:
    flat = boxed(tmp_path, [110, 10, 110, 40])
    among = boxed(tmp_path, [10, 10, 30, 20], [40, 30, 42, 30])
    far = boxed(tmp_path, [50, 20, 3 * WIDTH, 40])
    turned = replace(
        boxed(tmp_path, [1, 2, 30, 40]),
        media=(Media("image", path=boxed(tmp_path).media[0].path, width=HEIGHT, height=WIDTH),),
    )
    assert checked(among, "box_xywh", "fix") == checked(
        among, "box_order", None
    )  # a flat box says nothing of the others
    for broken, code in ((flat, "box_order"), (among, "box_order"), (far, "box_outside"), (turned, "size_mismatch")):
        outcome = checked(broken, code, "fix")
        assert isinstance(outcome, Quarantined)
        assert outcome.reason == code


def test_a_centre_with_its_size_in_shares_is_not_advised_as_xywh(tmp_path: Path) -> None:
    outcome = checked(boxed(tmp_path, [0.5, 0.5, 0.2, 0.3]), "box_order", None)
    assert isinstance(outcome, Quarantined)
    assert outcome.reason == "box_order"
    assert "must be corners x1, y1, x2, y2" in outcome.why
    assert "xywh" not in outcome.why


@pytest.mark.parametrize(
    "whole",
    [
        answered("Is the car red or blue?", "red"),
        answered("What is written there?", "exit"),
        chosen("A", "5", "5.0"),
        chosen("A", "a", "b"),
    ],
)
def test_questions_that_only_look_broken_pass(whole: Sample) -> None:
    assert isinstance(validate(whole), Sample)


def test_places_that_only_look_broken_pass(tmp_path: Path) -> None:
    assert isinstance(validate(boxed(tmp_path, [0, 0, WIDTH, HEIGHT])), Sample)
    assert isinstance(validate(boxed(tmp_path, [0, 0, 1, 1.5])), Sample)
    assert isinstance(validate(timed(tmp_path, [0, 1], [1, 2])), Sample)


def test_a_choice_of_two_letters_has_several_golds() -> None:
    for gold in ("A, B", "AB", ["A", "B"]):
        outcome = validate(chosen(gold, "cat", "dog"))
        assert isinstance(outcome, Quarantined)
        assert outcome.reason == "several_golds"


def test_long_answers_are_checked_in_no_time(tmp_path: Path) -> None:
    boxes = [[place % 100, 1, place % 100 + 10, 2 + place / 1000] for place in range(20_000)]
    crowded = boxed(tmp_path, *boxes, boxes[7])
    wordy = answered("What is it, " + "a word " * 10_000, *(f"gold {place}" for place in range(2000)), "word a word")
    since = time.perf_counter()
    fixed, quarantined = validate(crowded), validate(wordy)
    assert time.perf_counter() - since < 5
    assert isinstance(fixed, Sample)
    assert fixed.answer["boxes"] == boxes
    assert isinstance(quarantined, Dropped)


def test_several_faults_are_mended_one_after_the_other(tmp_path: Path) -> None:
    broken = boxed(tmp_path, [90, 30, 50, WIDTH], [1, 2, 30, 40], [1, 2, 30, 40], [5, 5, WIDTH + 0.5, 60])
    outcome = validate(broken, modes={"box_order": "fix", "box_outside": "fix"})
    assert isinstance(outcome, Sample), outcome
    assert outcome.answer["boxes"] == [[50, 30, 90, HEIGHT], [1, 2, 30, 40], [5, 5, WIDTH, 60]]
    assert outcome.meta["fixed"] == ["box_order", "box_outside", "box_repeated"]


def test_repeated_ids_differ_from_repeated_samples() -> None:
    first, other = sample(meta={**WHOLE, "id": 7}), sample(question="Is it night?", meta={**WHOLE, "id": 7})
    again, elsewhere = sample(meta={**WHOLE, "id": 7}), replace(other, source="second")
    outcomes = list(unique_ids(map(with_id, iter([first, other, again, elsewhere, sample(), sample()]))))
    reasons = [getattr(outcome, "reason", None) for outcome in outcomes]
    assert reasons == [None, "duplicate_id", "same_sample", None, None, "same_sample"]


def recipe(folder: Path, rows: list[dict[str, Any]], **modes: str) -> Recipe:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    operators = [{"fn": "validate", "args": {"modes": modes}}]
    fields = {"sources": [{"fn": "jsonl", "args": {"path": "rows.jsonl"}}], "operators": operators, "root": folder}
    return configured(Recipe, fields, where="recipe")


@pytest.mark.parametrize(
    ("code", "image"),
    [("missing", "gone.png"), ("outside_root", "../a.png"), ("remote", "http://example.org/a.png"), ("empty", "e.png")],
)
def test_modes_hold_for_files_that_a_source_cannot_find(code: str, image: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "e.png").touch()
    (tmp_path / "a.png").touch()
    rows = [{"question": "Day?", "task": "yesno", "answer": "yes", "image": image}] * 2
    assert run(recipe(folder, rows), out=tmp_path / "out").quarantined == {code: 2}
    (name,) = run(recipe(folder, rows, **{code: "drop"}), out=tmp_path / "out").dropped
    assert name in (f"jsonl: {code}", f"validate: {code}")
    with pytest.raises(InputError, match=rf"{code}, and its mode is fail.*{image.rpartition('/')[2]}"):
        run(recipe(folder, rows, **{code: "fail"}), out=tmp_path / "failed")
    assert not (tmp_path / "failed").exists()


def test_a_check_that_fails_ends_the_command_in_one_line(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", Image.new("RGB", (100, 20)))
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"question": "Day?", "task": "yesno", "answer": "yes", "image": "a.png"})
    )
    (tmp_path / "recipe.yaml").write_text(
        "sources: [{fn: jsonl, args: {path: rows.jsonl}}]\n"
        "operators: [{fn: validate, args: {modes: {tiny_side: fail}, limits: {min_side: 21}}}]\n"
    )
    command = ["data", "build", "recipe.yaml", f"root={tmp_path}", "--workers", "2", "--out", "out"]
    ended = subprocess.run(
        [sys.executable, "-m", "mmrl", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "jsonl sample rows.jsonl:1: tiny_side, and its mode is fail" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
