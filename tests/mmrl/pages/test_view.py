"""`mmrl view` and the demo's report on a run written by hand: pages for people, of one file each."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_engine.schema import Sample
from eval.records import Record, read_records
from mmrl.commands.view import app
from mmrl.core.config import InputError
from mmrl.core.files import sha256_of
from mmrl.demo.report import OUTCOMES, Pair, changed_most, chosen, learnt, paired, write_report
from mmrl.grpo.rollouts import write_rollouts
from mmrl.pages.curves import charts, logged
from mmrl.pages.rollout_pages import as_page, record_exhibit
from mmrl.pages.rollout_pages import chosen as shown_of
from tests.support.gallery import HOSTILE, evaluation, gallery, summary, training
from tests.support.markup import Markup, checked


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gallery")


@pytest.fixture(scope="module")
def samples(out: Path) -> list[Sample]:
    return gallery(out / "data")


@pytest.fixture(scope="module")
def runs(out: Path, samples: list[Sample]) -> dict[str, Path]:
    return {
        "greedy_before": evaluation(out / "eval/greedy_before", samples, [2, 1, 3]),
        "greedy_after": evaluation(out / "eval/greedy_after", samples, [1, 0, 2, 0, 3]),
        "sampled_before": evaluation(out / "eval/sampled_before", samples, [2, 1, 3], draws=3),
    }


@pytest.fixture(scope="module")
def trained(out: Path, samples: list[Sample]) -> Path:
    return training(out / "train", samples)


@pytest.fixture(scope="module")
def report(out: Path, runs: dict[str, Path], trained: Path) -> Markup:
    place = write_report(out, summary=summary(), runs=runs, training=trained)
    assert place == out / "report.html"
    return checked(place.read_text(encoding="utf-8"))


def viewed(*arguments: object) -> str:
    """The output of `mmrl view`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception:
        raise result.exception
    return result.output


def test_rollouts_are_shown_with_verdicts_advantages_and_boxes(trained: Path, samples: list[Sample]) -> None:
    assert f"{len(samples)} prompts: {trained / 'view.html'}" in viewed(trained)
    markup = checked((trained / "view.html").read_text())
    assert len(markup.named("article")) == len(samples)
    assert len(markup.named("section", "answer")) == 4 * len(samples)
    for text in ("Step 39 of the 2 steps from 0 to 39", "advantage +0.50", "advantage -1.00", "unparsed: no box"):
        assert text in markup.text
    assert markup.text.count("abstained: number, temporal (a reward of other tasks)") == 4 * 4
    assert len(markup.named("rect", "gold")) == 7  # four pictures, three videos
    assert len(markup.named("rect", "answer")) == 7 * 3  # the fourth answer names no place
    assert len(markup.named("figure", "chart")) == 7


def test_a_gold_answer_among_the_rollouts_is_marked(trained: Path, tmp_path: Path) -> None:
    rows = pq.read_table(trained / "rollouts" / "step-00039.parquet").to_pylist()
    write_rollouts([row | {"injected": row["draw"] == 3} for row in rows], tmp_path, step=0, group=4)
    viewed(tmp_path)
    markup = checked((tmp_path / "view.html").read_text())
    assert markup.text.count("injected") == len(rows) // 4


def test_a_step_and_a_task_can_be_chosen(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "step.html"
    assert str(page) in viewed(trained, "--step", 0, "--task", "grounding", "--out", page)
    markup = checked(page.read_text())
    assert "Step 0 of" in markup.text
    assert len(markup.named("article")) == 4


def test_records_are_shown_draw_by_draw(runs: dict[str, Path], samples: list[Sample]) -> None:
    viewed(runs["sampled_before"])
    markup = checked((runs["sampled_before"] / "view.html").read_text())
    assert len(markup.named("section", "answer")) == 3 * len(samples)
    assert "models/sampled_before, sampled at temperature 1" in markup.text
    assert HOSTILE in markup.text


def test_samples_are_shown_with_their_gold(out: Path, samples: list[Sample]) -> None:
    viewed(out / "data")
    markup = checked((out / "data" / "view.html").read_text())
    assert len(markup.named("article")) == len(samples)
    assert len(markup.images()) == 4 + 3 + 4 + 2
    assert len(markup.named("rect", "gold")) == 7
    x1, y1, x2, y2 = samples[0].answer["boxes"][0]
    place = {key: float(value or "") for key, value in markup.named("rect", "gold")[0].items() if key != "class"}
    assert place == {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    assert not markup.named("section", "answer")


@pytest.mark.parametrize("kind", ["data", "train", "eval/sampled_before"])
def test_omissions_are_reported(kind: str, out: Path, trained: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    note = "10 of 13 prompts are not shown; those shown are evenly spread. --limit shows more."
    assert note in viewed(out / kind, "--limit", 3, "--out", tmp_path / "page.html")
    markup = checked((tmp_path / "page.html").read_text())
    assert note in markup.text
    assert len(markup.named("article")) == 3
    assert len({text for text in markup.texts if text in ("grounding", "count", "temporal", "number")}) > 1


@pytest.mark.parametrize(
    ("kind", "step", "task", "message"),
    [
        ("train", 7, None, "no rollouts of step 7; it has 2 steps, from 0 to 39"),
        ("train", None, "grouding", "no task 'grouding' there; did you mean grounding?"),
        ("eval/sampled_before", None, "video", "no task 'video'"),
        ("eval/sampled_before", 1, None, "--step 1 is for training runs"),
        ("data", 1, None, "--step 1 is for training runs"),
        ("data", None, "cuont", "did you mean count?"),
        ("", None, None, "look at one of"),
        ("nowhere", None, None, "give the output of mmrl train"),
    ],
)
def test_a_view_of_nothing_is_an_error_with_its_reason(
    kind: str, step: int | None, task: str | None, message: str, out: Path, trained: Path, runs: dict[str, Path]
) -> None:
    with pytest.raises(InputError, match=r"(?s).*" + message.replace("?", r"\?")):
        shown_of(out / kind, step=step, task=task, limit=9)


def test_damaged_rollouts_are_an_error_that_names_the_file(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "train")
    broken = tmp_path / "train" / "rollouts" / "step-00050.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"step-00050\.parquet is damaged"):
        shown_of(tmp_path / "train", step=None, task=None, limit=9)
    shutil.copy(
        tmp_path / "train" / "rollouts" / "step-00000.parquet", tmp_path / "train" / "rollouts" / "step-x.parquet"
    )
    assert shown_of(tmp_path / "train", step=0, task=None, limit=9).total == 13


def test_records_of_remote_media_fetch_nothing(runs: dict[str, Path]) -> None:
    record = read_records(runs["greedy_before"])[0]
    remote = replace(record, media=[{**record.media[0], "path": "https://example.org/x.png"}])
    shown = shown_of(runs["greedy_before"], step=None, task=None, limit=1)
    page = replace(shown, exhibits=[record_exhibit([remote], runs["greedy_before"])])
    markup = checked(as_page(page))
    assert "https://example.org/x.png is remote" in markup.text
    assert not markup.images()


def test_pictures_that_the_run_did_not_record_are_not_shown(trained: Path, tmp_path: Path) -> None:
    """A run of somebody else may name any picture of this machine, and pages are made to be mailed."""
    private = tmp_path / "private.png"
    Image.new("RGB", (9, 9)).save(private)
    run = tmp_path / "run"
    rows = [row for row in pq.read_table(trained / "rollouts" / "step-00039.parquet").to_pylist() if row["media"]][:4]
    for change, shown in (
        ({}, True),
        ({"path": str(private)}, False),
        ({"path": str(private), "sha256": None}, False),
        ({"path": str(private), "sha256": sha256_of(private)}, True),
    ):
        write_rollouts([{**row, "media": [{**row["media"][0], **change}]} for row in rows], run, step=0, group=4)
        page = checked(as_page(shown_of(run, step=None, task=None, limit=9)))
        assert bool(page.images()) is shown
        assert ("not what was recorded" in page.text) is not shown
    shutil.copy(private, run / "own.png")
    write_rollouts(
        [{**row, "media": [{"kind": "image", "path": str(run / "own.png")}]} for row in rows], run, step=0, group=4
    )
    assert checked(as_page(shown_of(run, step=None, task=None, limit=9))).images()


def test_a_verdict_without_a_kind_is_an_error_that_names_the_sample(trained: Path, tmp_path: Path) -> None:
    rows = pq.read_table(trained / "rollouts" / "step-00039.parquet").to_pylist()
    write_rollouts([row | {"kind/format": None, "score/format": None} for row in rows], tmp_path, step=0, group=4)
    with pytest.raises(InputError, match=rf"the rollouts of sample {rows[0]['id']} are damaged"):
        shown_of(tmp_path, step=None, task=None, limit=9)


def test_metrics_without_a_number_and_a_torn_line_are_no_points(trained: Path, tmp_path: Path) -> None:
    points = logged(trained / "metrics.jsonl")
    assert [step for step, _ in points["reward"]] == list(range(40))
    assert [step for step, _ in points["rewards/temporal/mean"]] == [step for step in range(40) if step % 5]
    assert "step" not in points
    assert "no metrics.jsonl" in Markup(charts(tmp_path)).text


def test_the_report_shows_scores_curves_and_samples(report: Markup) -> None:
    assert "0.400 → 0.500" in report.texts
    assert "+0.100, 95 % interval +0.060 to +0.140; 0.200 from the text only" in report.texts
    assert len(report.named("svg", "span")) == 2 * 7
    assert len(report.named("figure", "chart")) == 7
    assert len(report.named("article")) == 3 + 12  # one of each task that gained, and the fair choice
    assert len(report.named("section", "answer")) == 2 * (3 + 12)
    assert HOSTILE in report.text
    assert "models/sampled_before" in report.texts


def test_the_report_draws_before_after_and_gold(report: Markup) -> None:
    for kind in ("gold", "before", "after"):
        assert report.named("rect", kind)
    lines = [given["class"] for given in report.named("path", "mark")]
    assert {"mark gold", "mark before", "mark after"} <= set(lines)  # the legend


def test_the_report_says_what_it_left_out(report: Markup) -> None:
    assert "Of the 13 questions answered greedily, by total score: 7 improved, 4 unchanged, 2 got worse." in report.text
    assert "Nothing was picked by hand" in report.text


def pair(task: str, item: int, gain: float) -> Pair:
    record = Record("k", "p", "b", "test", f"{item:03}", 0, task, "s", "q", [], [], [], "", 0, None, total=0.5)
    return Pair(record, replace(record, total=0.5 + gain))


def test_samples_are_spread_over_tasks_and_outcomes() -> None:
    pairs = [pair(task, i, (0.5, 0.0, -0.5)[i % 3]) for task in ("a", "b", "c", "d") for i in range(30)]
    picked = chosen(pairs, 12)
    assert Counter(rollout.before.task for rollout in picked) == dict.fromkeys("abcd", 3)
    assert Counter(rollout.outcome for rollout in picked) == dict.fromkeys(OUTCOMES, 4)
    assert chosen(pairs, 12) == picked
    assert picked[0].before.item_id == "000"


def test_what_got_worse_is_never_hidden() -> None:
    pairs = [pair("a", i, 0.5) for i in range(50)] + [pair("b", i, 0.5) for i in range(50)]
    pairs += [pair("b", 99, -0.1)]
    for samples in (1, 2, 12):
        assert any(pair.outcome == "got worse" for pair in chosen(pairs, samples))
    assert len(chosen(pairs, 500)) == 101
    assert len(chosen(pairs[:2], 12)) == 2


def test_the_report_opens_with_what_was_learnt_and_the_answers_that_changed_most(report: Markup) -> None:
    headings = [text for text in report.texts if text in ("Answers that changed most", "During training", "Greedy")]
    assert headings == ["Answers that changed most", "During training", "Greedy"]
    assert "Unlearnt: grounding 0.40 → 0.25, count 0.40 → 0.20." in report.texts


def test_what_was_learnt_is_what_rose_for_certain() -> None:
    rows = [
        {"task": task, "decoding": decoding, "reward": "total", "before": 0.5, "difference": gain, "after": 0.5 + gain}
        | {"low": gain - 0.1 if gain else None, "high": gain + 0.1 if gain else None}
        for decoding in ("greedy", "sampled")
        for task, gain in (("all", 0.3), ("a", 0.2), ("b", 0.05), ("c", 0.4), ("d", -0.2), ("e", 0.0))
    ]
    told = learnt(rows)
    assert told == "Learnt: c 0.50 → 0.90, a 0.50 → 0.70. Unlearnt: d 0.50 → 0.30. " + (
        "No certain change: b 0.50 → 0.55, e 0.50 → 0.50."
    )
    assert learnt(rows[:1]) == ""


def test_the_answer_that_gained_most_stands_for_its_task() -> None:
    gains = {"a": (0.1, 0.5, 0.5), "b": (0.9, -1.0), "c": (-0.5, 0.0)}
    pairs = [pair(task, i, gain) for task, some in gains.items() for i, gain in enumerate(some)]
    assert [(one.before.task, one.before.item_id) for one in changed_most(pairs)] == [("b", "000"), ("a", "001")]


def test_runs_without_a_common_question_are_an_error(runs: dict[str, Path]) -> None:
    records = read_records(runs["greedy_before"])
    with pytest.raises(InputError, match="no scored question in common"):
        paired(records[:2], records[2:])


def test_curves_show_the_held_out_reward_and_the_loss_and_a_warm_up_has_them_too(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1 / step, "grad_norm": 0.5, "entropy": 2.0} for step in (1, 2)]
    lines += [{"step": 2, "eval_reward": 0.75}]
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = Markup(as_page(shown_of(tmp_path / "sft", step=None, task=None, limit=9))).text
    for title in ("weighted sum, held out", "loss", "entropy of a token", "norm of the gradient"):
        assert title in page
    with pytest.raises(InputError, match=r"look at one of .*sft"):
        shown_of(tmp_path, step=None, task=None, limit=9)


def test_a_task_is_looked_for_in_all_steps(trained: Path, tmp_path: Path) -> None:
    rows = pq.read_table(trained / "rollouts" / "step-00039.parquet").to_pylist()
    grounding = [row for row in rows if row["task"] == "grounding"]
    write_rollouts(grounding, tmp_path, step=3, group=1)
    write_rollouts([row for row in rows if row["task"] != "grounding"], tmp_path, step=7, group=1)
    assert "Step 3 of the 2 steps" in shown_of(tmp_path, step=None, task="grounding", limit=9).about
    assert "Step 7 of the 2 steps" in shown_of(tmp_path, step=None, task=None, limit=9).about
