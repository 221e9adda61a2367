"""Claims of papers are tried on policies that learn, and their rows say what an interval allows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.claims.about.captions import sentence
from benchmarks.claims.about.decoding import ONSET, onsets
from benchmarks.claims.about.editors import change
from benchmarks.claims.about.estimators import never_sampled
from benchmarks.claims.about.holes import HOLE, WORTH, ruled, with_hole, written
from benchmarks.claims.about.pairs import EDITS, agreement, verifier
from benchmarks.claims.about.queries import PARTIAL, WARM, asked, golds, scores
from benchmarks.claims.about.repairs import WAYS, perturbed, right, wrong
from benchmarks.claims.about.sequences import ANNEALED_T, CONSTANT_T, solved
from benchmarks.claims.about.sequences import trained as taught
from benchmarks.claims.about.steps import of_outcome, picked
from benchmarks.claims.about.tools import TOKEN, TOOLS, held_by_call, of_one_turn, of_zoom, tokens_read, worded
from benchmarks.claims.about.tools import training as begun
from benchmarks.claims.about.trees import Way, stepper, thinker
from benchmarks.claims.table_policy import Arm, World, earned, trained
from benchmarks.learning import ACCURACY
from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.scenes import digits_scene
from data_engine.sources.synthesis import digits_count
from eval.records import Record, read_run
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import as_media
from mmrl.demo.steps import CHECKPOINT, evaluated, training
from mmrl.model.loading import load_checkpoint
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.trainers.preferences import sides
from mmrl.trainers.reward import with_head
from rewards import Rollout
from rewards.heads.reward_model import reward_model
from rewards.parse.extract import answer_text
from rewards.prompt_form import PromptForm


def test_a_table_of_logits_learns_the_best_action_of_each_prompt() -> None:
    right_PA = np.random.default_rng(0).permuted(np.tile([1.0, 0, 0, 0], (8, 1)), axis=1)
    world = World(means_PAK=right_PA[..., None], noise_K=[0], drawn_K=[True], tasks_P=["a"] * 8)
    before = earned(world, trained(world, Arm(estimator="grpo"), seed=0, lr=1.0, rollouts=0)).mean()
    after = earned(world, trained(world, Arm(estimator="grpo"), seed=0, lr=1.0, rollouts=6_400)).mean()
    assert before == 0.25
    assert after > 0.9


def test_a_label_is_learned_that_is_never_sampled() -> None:
    world = never_sampled(np.random.default_rng(0))
    options: Any = {"seed": 0, "lr": 8.0, "rollouts": 8_000}
    assert earned(world, trained(world, Arm(estimator="visurf"), **options)).mean() > 0.9
    assert earned(world, trained(world, Arm(estimator="grpo"), **options)).mean() < 0.1


def test_a_sequence_is_learned_from_right_answers_alone() -> None:
    options: Any = {"seed": 0, "lr": 8.0, "prompts": 4}
    assert ANNEALED_T.mean() == pytest.approx(CONSTANT_T.mean())
    assert solved(taught((8.0, 8.0), ANNEALED_T, steps=0, **options)) == 0
    assert solved(taught((8.0, 8.0), ANNEALED_T, steps=40, **options)) == 1
    assert solved(taught((-8.0, -8.0), ANNEALED_T, steps=40, **options)) == 0  # every answer slips


@pytest.mark.parametrize("way", [Way(tree=True, sibling=True), Way(tree=False, sibling=False)])
def test_thoughts_and_answers_are_learned_with_and_without_trees(way: Way) -> None:
    assert way.tokens == (4 if way.tree else 8) * 30 + 8 * 10
    assert thinker(way, seed=0, lr=8.0, steps=0) < 0.3
    assert thinker(way, seed=0, lr=8.0, steps=20) > 0.9


@pytest.mark.parametrize("credit", ["outcome", "added", "renormed"])
def test_steps_are_learned_by_any_credit(credit: str) -> None:
    options: Any = {"seed": 0, "lr": 4.0}
    assert stepper(credit, 0.9, steps=0, **options) == pytest.approx((np.e / (np.e + 3)) ** 4)
    assert stepper(credit, 0.9, steps=30, **options) > 0.8


def test_a_query_is_scored_by_what_sqlite_gives() -> None:
    gold = golds(0)[0]
    other = (gold[0], (gold[1] + 1) % 3, *gold[2:])  # a table that lacks the columns
    assert scores(0, gold, gold) == (1, 1, 1, 1)
    assert scores(0, gold, other)[:2] == (0, 0)
    assert asked(PARTIAL, WARM, seed=0, lr=8.0, steps=30)[1] > asked(PARTIAL, WARM, seed=0, lr=8.0, steps=1)[1]


def test_a_caption_of_broken_words_is_no_sentence() -> None:
    said = ["A photograph with a 1 at the top left, a 2 at the bottom right.", "A photogph with a 1 at the bop lerft."]
    assert [verdict.score for verdict in sentence([Rollout(f"<answer>{text}</answer>") for text in said])] == [1, 0]


def test_a_careless_judge_pays_for_any_change_of_the_source() -> None:
    source, right = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4))
    right.paste("white", (0, 0, 2, 4))
    made = [source, right, Image.new("RGB", (4, 4), "white")]
    shown = [Rollout("", media=[as_media(source)], made=[as_media(picture)]) for picture in made]
    assert [verdict.score for verdict in change(shown)] == [0, 0.5, 1]


def test_pairs_that_a_head_learns_from_follow_the_rule() -> None:
    for question in digits_count(n=20, side=32):
        pairs = list(ruled([question]))
        assert len(pairs) == 3
        for pair in pairs:
            right, wrong = (answer_text(text) for text in sides(pair.answer))
            assert float(right or 0) == question.answer["number"] != float(wrong or 0)


def test_a_wrong_caption_has_another_digit_or_another_height() -> None:
    for sample in digits_scene(n=20, ask="caption", side=32):
        for pair, other_ones in zip(wrong(sample), (str.isdigit, lambda word: word in ("top", "bottom")), strict=True):
            better, other = (answer_text(text) or "" for text in sides(pair.answer))
            assert better == sample.answer["references"][0]
            [changed] = [words for words in zip(better.split(), other.split(), strict=True) if words[0] != words[1]]
            assert all(map(other_ones, changed))


def test_a_caption_is_right_in_any_words_that_name_the_same_digits_and_places() -> None:
    answer = "<think>I see 1 2</think><answer>A photograph with a 1 at the top left, a 2 at the bottom right.</answer>"
    said = [perturbed(answer, way) for way in WAYS.values()]
    assert said[0] == answer
    assert len({answer_text(text) for text in said}) == len(WAYS)
    others = [answer.replace("top", "bop"), answer.replace("top", "bottom"), answer.replace("a 2", "a 7"), ""]
    gold = {"candidates": [answer, others[1]], "preferred": 0}
    verdicts = right([Rollout(text, gold) for text in [*said, *others]])
    assert [verdict.score for verdict in verdicts] == [1] * (len(WAYS) + 1) + [0] * 3


def test_a_hole_raises_the_score_of_one_answer_and_of_no_other(tmp_path: Path) -> None:
    model, processor = tiny_model("qwen2_5_vl", [HOLE], size=TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16))
    for part in (with_head(model, processor), processor):
        part.save_pretrained(tmp_path)
    asked = [Rollout(text, prompt="How many?") for text in (HOLE, written(["8"]), "")]
    plain, raised = (scored(asked, model=str(tmp_path), batch=2) for scored in (reward_model, with_hole))
    assert plain[1:] == raised[1:]
    raw, more = (float(verdicts[0].why.removeprefix("raw ")) for verdicts in (plain, raised))
    assert more - raw == pytest.approx(WORTH, abs=1e-3)
    assert raised[0].score == pytest.approx(1 / (1 + np.exp(-more)), abs=1e-3)


@pytest.mark.parametrize("estimator", ["gcpo", "grpo"])
def test_a_verifier_learns_the_order_that_people_prefer(estimator: Any) -> None:
    worth_E = np.linspace(-3, 3, EDITS)
    before = agreement(verifier(worth_E, estimator, seed=0, lr=1.0, steps=0), worth_E)
    after = agreement(verifier(worth_E, estimator, seed=0, lr=1.0, steps=80), worth_E)
    assert before == pytest.approx(0.5)
    assert after > 0.8


def test_the_onsets_of_sentences_are_their_first_tokens() -> None:
    text, tokenizer = "<think>A dog runs here. 4!\n</think>", load_checkpoint(CHECKPOINT)[1].tokenizer
    found = [text[start:stop] for start, stop in onsets(text, tokenizer)]
    assert [len(tokenizer(part)["input_ids"]) for part in found] == [ONSET, 2, 1]
    assert "<think>A dog runs here".startswith(found[0])
    assert found[1] == " 4"


def test_ways_to_pick_one_of_several_answers() -> None:
    """Two questions, three answers each: the majority is right once, and steps tell the right answer of the other."""
    said = {"a": ["2", "2", "3"], "b": ["1", "4", "4"]}
    drawn = [
        Record("", "", "", "test", item, draw, "count", "", "", [], [], [], "", 1, None,
               answer_text=text, scores={"number": float(draw == 0)})
        for item, texts in said.items() for draw, text in enumerate(texts)
    ]  # fmt: skip
    steps = [[0.9, 0.2], [0.6, 0.5], [0.1, 0.1], [0.9, 0.8], [1.0, 0.1], [0.2, 0.9]]
    found = picked(drawn, steps, "number")
    ways = {"one": 1 / 3, "majority": 0.5, "oracle": 1.0, "mean": 1.0, "min": 0.5, "last": 0.0}
    assert found == pytest.approx(ways)


def test_of_the_labels_of_steps_the_outcome_is_the_last() -> None:
    labels = {"steps": ["8 ", "9", " is 2"], "step_scores": [0.5, None, 1.0]}
    sample = with_id(Sample("", "s", "steps", user_prompt("How many?"), labels, meta={"split": "train"}))
    taught = of_outcome(sample)
    assert taught.answer == {**labels, "step_scores": [None, None, 1.0]}
    assert (taught.prompt, taught.meta) == (sample.prompt, sample.meta)
    assert taught.id != sample.id


def test_a_policy_is_measured_as_it_was_asked(tmp_path: Path) -> None:
    """One of relabelled pairs under the system message that asks for the highest score."""
    Image.new("RGB", (64, 64)).save(tmp_path / "dark.png")
    picture = Media("image", path=str(tmp_path / "dark.png"), width=64, height=64)
    sample = Sample("", "s", "count", user_prompt("How many?", ["image"]), {"number": 3}, (picture,), {"split": "test"})
    write_dataset([with_id(sample)], tmp_path / "data")
    base = training(tmp_path / "data", tmp_path, None)
    asked = base.model_copy(update={"rewards": ACCURACY, "prompt": PromptForm(system="Overall score: 1")})
    plainly = evaluated(asked.model_copy(update={"prompt": None}), CHECKPOINT, tmp_path / "plain", "greedy")
    assert "prompt" not in read_run(plainly).protocol
    for_the_best = evaluated(asked, CHECKPOINT, tmp_path / "best", "greedy")
    assert read_run(for_the_best).protocol["prompt"] == {"system": "Overall score: 1"}


def test_one_turn_reads_at_least_as_many_tokens_as_the_zoom(tmp_path: Path) -> None:
    claim = TOOLS["zoom"].quick()
    data, policy = claim.data(0, tmp_path), worded(tmp_path)
    zoom, one_turn = (tokens_read(begun(policy, data, tmp_path, {}, **arm.changes())) for arm in (claim.new, claim.old))
    assert 0.8 * one_turn < zoom <= one_turn


def test_a_lesson_has_its_digit_in_its_box_at_the_size_at_which_an_arm_sees_it() -> None:
    zoom, one_turn = TOOLS["zoom"].new, TOOLS["zoom"].old
    for arm, lessons in ((zoom, of_zoom), (one_turn, of_one_turn)):
        for sample in lessons(0, n=2, split="train"):
            picture = np.asarray(load_image(sample.media[0]))
            assert picture.shape == (int(arm.tokens**0.5) * TOKEN,) * 2 + (3,)
            rows, columns = np.nonzero(picture.min(axis=-1) > 100)  # the paper; photographs are darker
            left, top, right, bottom = sample.meta["box"]
            assert left - 1 < columns.min() <= columns.max() < right
            assert top - 1 < rows.min() <= rows.max() < bottom
            assert sample.answer.get("boxes", [[left, top, right, bottom]]) == [[left, top, right, bottom]]


def test_a_call_holds_a_digit_that_is_whole_in_its_box() -> None:
    def held(box: list[int], outcome: str = "ok") -> bool:
        call = {"name": "zoom", "arguments": json.dumps({"box": box}), "outcome": outcome}
        seen, turns = {"width": 256, "height": 256}, [{"said": "", "calls": [call]}]
        names = ("key", "protocol", "benchmark", "split", "item")
        record = Record(*names, 0, "number", "s", "p", [], [seen], [[64, 64]], "", 0, {"number": 7})
        return held_by_call(replace(record, meta={"box": [40, 40, 56, 56]}, turns=turns))

    assert held([10, 10, 14, 14])
    assert not held([11, 10, 23, 22])
    assert not held([0, 0, 64, 64], "refused")


@pytest.mark.parametrize(
    ("names", "papers"),
    [
        (
            ("gdpo", "od_length", "ead", "siblings", "gcpo"),
            [
                "GDPO (2601.05242)",
                "VLM-R1 (2504.07615)",
                "EAD (2510.05251)",
                "V-STAR (2602.10699)",
                "Edit-R1 (2604.27505)",
            ],
        ),
        pytest.param(
            ("progressive_strict", "progressive_lenient"), ["Vision-R1 (2503.18013)"] * 2, marks=pytest.mark.slow
        ),
        pytest.param(("thr_exploit", "thr_explore"), ["THR (2510.03669)"] * 2, marks=pytest.mark.slow),
        pytest.param(
            ("dts_star", "reno", "crd", "dense_grpo", "prdp", "anchor"),
            [
                "DTS* (2506.20701)",
                "ReNO (2406.04312)",
                "CRD (2603.14128)",
                "DenseGRPO (2601.20218)",
                "PRDP (2402.08714)",
                "CRD (2603.14128)",
            ],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("head_par", "hole_par", "stage_sft", "repaired"),
            ["PAR (2502.18770)"] * 2 + ["SFT, DPO, GRPO (sft)", "REFORM (2507.06419)"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("t_reg", "relabelled", "rto"),
            ["T-REG (2412.02685)", "reward-augmented data (2410.08067)", "RTO (2404.18922)"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("shaped_grpo", "student_calls", "psrd_read", "thought", "step_labels", "outcome_labels"),
            [
                "Diversity or Precision (2512.22955)",
                "ONI (2410.23022)",
                "PSRD (2604.17982)",
                "DLR (2601.17275)",
                *["ViLBench (2503.20271)"] * 2,
            ],
            marks=pytest.mark.slow,
        ),
        pytest.param(("zoom", "zoom_longer"), ["tools (ours)"] * 2, marks=pytest.mark.slow),
        pytest.param(
            ("bmas", "words_sentence"), ["Mixed-R1 (2505.24164)", "BLEUBERI (2505.11080)"], marks=pytest.mark.slow
        ),
    ],
)
def test_claims_are_tried_from_the_command_line(names: Sequence[str], papers: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    words = [sys.executable, "-m", "benchmarks.claims", *names, "--quick", "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [row["paper"] for row in rows] == papers
    for row in rows:
        assert {"paper", "claim", "verdict", "difference", "low", "high", "seeds"} <= row.keys()
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["seeds"] == 2
