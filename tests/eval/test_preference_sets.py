"""Published reward-model benchmarks in their own layouts, judged by rewards of known behaviour."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from eval.preferences.best_of_group import best_of_group
from eval.preferences.pairwise import judged_preferences
from eval.preferences.ranking import with_ties
from eval.preferences.sets import vl_rewardbench
from mmrl.commands.eval import app
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from rewards import Rollout, Verdict
from tests.support.benchmarks.answers import write_rows
from tests.support.benchmarks.fixture import cell
from tests.support.judge_server import serving, user_text

VL = [
    {
        "id": name,
        "query": "What is it?",
        "response": ["a right answer", wrong],
        "human_ranking": [0, 1],
        "image": cell(i),
    }
    for i, (name, wrong) in enumerate(
        [("RLAIF-V-1", "a cat"), ("mathverse_3", "a bad one"), ("wildvision-7", "no"), ("VLFeedback-2", "bad")]
    )
]
MM = [
    {"ID": name, "Text": "Which?", "Image": f"{i}.png", "Output1": "wrong", "Output2": "a right answer",
     "Better": "Output2", "Category": kind}
    for i, (name, kind) in enumerate([("pairs-1", "safety"), ("hateful-1", "safety")])
] + [
    {"ID": name, "Text": "Which?", "Image": "0.png", "Output1": "a right answer", "Output2": "wrong",
     "Better": "Output1", "Category": kind}
    for name, kind in [("math-1", "reasoning"), ("livecode-1", "reasoning"), ("vqa-1", "vqa")]
]  # fmt: skip
RB2 = [
    {"id": "1", "prompt": "Who?", "chosen": ["right"], "rejected": ["a", "b", "c"], "subset": "Math"},
    {"id": "2", "prompt": "Who?", "chosen": ["right"], "rejected": ["a", "b", "right"], "subset": "Focus"},
    *(
        {"id": name, "prompt": "Name a colour.", "chosen": good, "rejected": bad, "subset": "Ties"}
        for name, good, bad in [
            ("ref:0", ["5"], ["3", "1"]), ("ref:1", ["2"], ["3"]),
            ("tied:0", ["5", "4.5", "4"], ["2", "1"]), ("tied:1", ["4", "1"], ["2", "0"]),
        ]
    ),
]  # fmt: skip
VIL = [
    {"id": "1", "question": "x?", "solutions": [["right", "wrong"], ["wrong", "right"]], "correct": [False, True]},
    {"id": "2", "question": "y?", "solutions": [["wrong"], ["wrong", "wrong"]], "correct": [False, True]},
    {"id": "3", "question": "z?", "solutions": [["right"], ["right", "right"]], "correct": [False, False]},
]
PAIRS = [
    {"key": [f"{task}{dimension}a", f"{task}{dimension}b"], "instruction": "Make it red.", "input_image": cell(0),
     "output_images": [cell(good), cell(bad)], "dimension": dimension, "task_type": task}
    for dimension in ("prompt_following", "overall")
    for task, good, bad in [
        ("subject-add", 200, 20), ("subject-remove", 90, 90), ("style_change", 30, 60), ("ps_human", 9, 3)
    ]
]  # fmt: skip


def ranking_rows() -> list[dict[str, Any]]:
    """Two pairs, one of them a tie, and a group of three as its three pairs: B is best, then C, then A."""
    two = [
        {"id": f"p{i}", "dataset": "2pair", "comparison_type": "", "ranking": ranking, "instruction": "Redder!",
         "source_image": cell(0), "candidate_1": cell(a), "candidate_2": cell(b)}
        for i, (ranking, a, b) in enumerate([("A>B", 200, 20), ("A=B=Good", 100, 104), ("A<B", 10, 90)])
    ]  # fmt: skip
    shades = {"A": 10, "B": 200, "C": 80}
    three = [
        {"id": f"g1_{i}", "dataset": "3pair", "comparison_type": f"{a}vs{b}", "ranking": ranking,
         "instruction": "Redder!", "source_image": cell(0), "candidate_1": cell(shades[a]),
         "candidate_2": cell(shades[b])}
        for i, (a, b, ranking) in enumerate([("A", "B", "B>A"), ("A", "C", "C>A"), ("B", "C", "B>C")])
    ]  # fmt: skip
    return two + three


def says_right(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward that prefers the right answer; a number is a score by itself."""
    return [_liking(rollout.completion) for rollout in rollouts]


def _liking(text: str) -> float:
    return float(text) / 5 if re.fullmatch(r"[\d.]+", text) else 0.9 * ("right" in text.split("\n")[-1])


def redness(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward of edits that likes red."""
    return [
        float(np.asarray(Image.open(str(rollout.all_media[1].path)).convert("RGB"))[..., 0].mean()) / 255
        for rollout in rollouts
    ]


def constant(rollouts: Sequence[Rollout]) -> list[float]:
    return [0.5 for _ in rollouts]


def silent(rollouts: Sequence[Rollout]) -> list[Verdict]:
    return [Verdict(None, "no idea") for _ in rollouts]


def suite(tmp_path: Path, fn: str, **more: Any) -> str:
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump({"rewards": {"it": {"fn": fn, **more.pop("spec", {})}}, **more}))
    return str(file)


def measured(tmp_path: Path, layout: str, rows: Any, fn: str, suffix: str = "parquet", **more: Any) -> tuple[Any, Any]:
    """The published numbers and the rows by dimension."""
    file = write_rows(tmp_path, rows, suffix)
    fn = f"tests.eval.test_preference_sets:{fn}"
    content = judged_preferences(suite(tmp_path, fn), file, layout=layout, **more)
    return content["numbers"]["it"], {row["dimension"]: row for row in content["rows"]}


def test_vl_rewardbench_has_three_groups_and_shows_odd_pairs_the_other_way_round(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "vl_rewardbench", VL, "says_right")
    assert numbers == {"overall": 1, "macro": 1, "general": 1, "hallucination": 1, "reasoning": 1}
    assert (rows["all"]["n"], rows["general"]["n"]) == (4, 2)
    choices = vl_rewardbench(VL, lambda _: Media("image", "0.png"))
    order = {c.id.split("/")[0]: c.candidates.index("a right answer") for c in choices}
    odd = {row["id"]: sum(map(len, row["response"])) % 2 for row in VL}
    assert order == odd
    assert set(odd.values()) == {0, 1}


def test_a_constant_reward_is_right_half_the_time_on_pairs(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "vl_rewardbench", VL, "constant")
    assert (numbers["overall"], numbers["macro"], rows["all"]["mean"]) == (0.5, 0.5, 0.5)
    assert rows["all"]["calibration"]["ece"] == 0
    assert rows["all"]["swapped"] == 0


def test_macro_is_the_mean_of_groups_of_unequal_size(tmp_path: Path) -> None:
    rows = [{**row, "human_ranking": [1, 0]} if row["id"] == "RLAIF-V-1" else row for row in VL]
    numbers, _ = measured(tmp_path, "vl_rewardbench", rows, "says_right")
    assert (numbers["overall"], numbers["macro"]) == (0.75, pytest.approx(2 / 3))


def test_multimodal_rewardbench_splits_safety_and_reasoning_by_id(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "multimodal_rewardbench", MM, "says_right", "csv")
    assert numbers["overall"] == 1
    assert set(rows) == {"all", "safety/bias", "safety/toxicity", "reasoning/math", "reasoning/coding", "vqa"}


def test_rewardbench_2_shares_out_ties_and_has_a_rule_for_many_right_answers(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "rewardbench_2", RB2, "says_right", "jsonl")
    assert (numbers["Math"], numbers["Focus"]) == (1, 0.5)
    assert numbers["Ties"] == pytest.approx(0.4994577)
    assert (numbers["Ties.ref"], numbers["Ties.tied"]) == (0.5, 0.5)
    assert numbers["overall"] == pytest.approx((1 + 0.5 + 0.4994577) / 3)
    numbers, rows = measured(tmp_path, "rewardbench_2", RB2, "constant", "jsonl")
    assert (numbers["Math"], rows["Math"]["mean"], numbers["Ties"]) == (0.25, 0.25, 0)


def test_vilbench_picks_by_its_steps_and_shares_out_ties(tmp_path: Path) -> None:
    numbers, _ = measured(tmp_path, "vilbench", VIL, "says_right", "jsonl")
    assert numbers["picked"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert (numbers["random"], numbers["oracle"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    numbers, _ = measured(tmp_path, "vilbench", VIL, "says_right", "jsonl", steps="last")
    assert numbers["picked"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_editreward_rankings_have_ties_for_two_and_orders_for_more(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "editreward_ranking", ranking_rows(), "redness")
    assert numbers["K=2.pairwise"] == 1
    assert numbers["K=2.threshold"] == pytest.approx(4 / 255)
    assert (numbers["K=2.strict"], numbers["K=3.pairwise"], numbers["K=3.strict"], numbers["overall_strict"]) == (
        1,
        1,
        1,
        1,
    )
    assert (rows["K=2"]["n"], rows["K=3"]["n"]) == (2, 1)  # a tie has no best edit
    numbers, _ = measured(tmp_path, "editreward_ranking", ranking_rows(), "constant")
    assert numbers["K=2.pairwise"] == pytest.approx(1 / 3)  # all are ties, and one is
    assert (numbers["K=3.pairwise"], numbers["K=3.strict"], numbers["overall_strict"]) == (0, 0, pytest.approx(1 / 4))


def test_editreward_takes_whole_groups_in_one_row(tmp_path: Path) -> None:
    row = {"id": "x", "ranking": "C>A>B", "instruction": "Redder!", "source_image": cell(0), "candidate_1": cell(90),
           "candidate_2": cell(10), "candidate_3": cell(200)}  # fmt: skip
    numbers, _ = measured(tmp_path, "editreward_ranking", [row], "redness")
    assert (numbers["K=3.strict"], numbers["K=2.pairwise"]) == (1, None)
    with pytest.raises(InputError, match="does not order A, B, C"):
        measured(tmp_path, "editreward_ranking", [{**row, "ranking": "A>B"}], "redness")


def test_a_group_whose_pairs_contradict_each_other_is_named(tmp_path: Path) -> None:
    rows = [{**row, "ranking": "A>C"} if row["ranking"] == "C>A" else row for row in ranking_rows()]
    rows = [{**row, "ranking": "C>B"} if row["ranking"] == "B>C" else row for row in rows]
    with pytest.raises(InputError, match="3pair/g1: the rankings of the group give no order"):
        measured(tmp_path, "editreward_ranking", rows, "redness")


def test_editreward_pairs_want_strictly_more_and_average_over_tasks(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "editreward_pairs", PAIRS, "redness")
    assert numbers["prompt_following"] == numbers["overall"] == 0.5  # two of four tasks: a tie is wrong
    assert (numbers["overall.object"], numbers["overall.appearance"], numbers["overall.advanced"]) == (0.5, 0, 1)
    assert numbers["overall.scene"] is None
    assert rows["subject-remove"]["mean"] == 0
    numbers, _ = measured(tmp_path, "editreward_pairs", PAIRS, "constant")
    assert numbers["overall"] == 0


def test_the_best_threshold_of_ties_is_found() -> None:
    assert with_ties([]) is None
    assert with_ties([(1, 0.2), (-1, -0.2)]) == (1, -1)  # no threshold: without human ties none is needed
    assert with_ties([(0, 0.2), (0, -0.1)]) == (1, 0.2)


def test_missing_verdicts_above_the_limit_withhold_all_numbers(tmp_path: Path) -> None:
    numbers, rows = measured(tmp_path, "vl_rewardbench", VL, "silent")
    assert numbers is None
    assert (rows["all"]["mean"], rows["all"]["withheld"], rows["all"]["unjudged"]) == (None, True, 1)


@pytest.mark.parametrize(
    ("layout", "rows", "message"),
    [
        ("vl_rewardbench", [{**VL[0], "human_ranking": [0, 0]}], "RLAIF-V-1: human_ranking"),
        ("vl_rewardbench", [VL[0], VL[0]], "occurs twice"),
        ("multimodal_rewardbench", [{**MM[0], "Better": "A"}], "pairs-1: Better is 'A'"),
        ("rewardbench_2", [{**RB2[0], "rejected": []}], "1: 1 chosen and 0 rejected"),
        ("vilbench", [{**VIL[0], "correct": [True]}], "1: 2 solutions, 1 flags"),
        ("editreward_pairs", [{**PAIRS[0], "output_images": [cell(1)]}], "1 output images"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, layout: str, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(tmp_path, layout, rows, "constant")


def test_missing_columns_and_unknown_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no human_ranking; it has"):
        measured(tmp_path, "vl_rewardbench", [{k: v for k, v in VL[0].items() if k != "human_ranking"}], "constant")
    with pytest.raises(InputError, match="vl_rewardbench"):
        measured(tmp_path, "vl_rewardbnch", VL, "constant")


def judged(tmp_path: Path, url: str, rows: Any, layout: str, **args: Any) -> tuple[Any, Any]:
    """The numbers of a judge that sees all candidates, behind a server."""
    file = suite(
        tmp_path, "eval.preferences.best_of_group:best_of_group", spec={"args": {"judge": "local", **args}},
        judges={"local": {"base_url": url, "model": "scripted", "backoff": 0.01, "retries": 0}},
    )  # fmt: skip
    content = judged_preferences(file, write_rows(tmp_path, rows, "parquet"), layout=layout)
    return content["numbers"]["it"], {row["dimension"]: row for row in content["rows"]}


def place_of(body: dict[str, Any], text: str) -> int:
    return [text in part for part in user_text(body).split("\nResponse ")[1:]].index(True)


def test_a_judge_that_sees_both_is_asked_in_both_orders(tmp_path: Path) -> None:
    with serving(lambda body: f"Because. [[{place_of(body, 'right') + 1}]]") as server:
        numbers, rows = judged(tmp_path, server.url, VL, "vl_rewardbench", names="numbers")
    assert numbers["overall"] == 1
    assert (rows["all"]["swapped"], rows["all"]["unparsed"], len(server.bodies)) == (0, 0, 8)
    with serving(lambda _: "[[A]]") as server:
        numbers, rows = judged(tmp_path, server.url, VL, "vl_rewardbench")
    assert rows["all"]["swapped"] == 1
    assert numbers["overall"] == 0.25  # the better one comes first in one of four


def test_what_a_judge_says_unreadably_is_wrong_and_not_a_tie(tmp_path: Path) -> None:
    with serving(lambda _: "Both are fine.") as server:
        numbers, rows = judged(tmp_path, server.url, VL, "vl_rewardbench")
    assert (numbers["overall"], rows["all"]["mean"], rows["all"]["unparsed"], rows["all"]["unjudged"]) == (0, 0, 1, 0)


def test_the_published_reading_finds_a_before_b(tmp_path: Path) -> None:
    with serving(lambda _: "[[B]] beats [[A]], so [[B]]") as server:
        judge = server.judge()
        pair = [Rollout(text, group="x", prompt="?") for text in "ab"]
        assert [verdict.score for verdict in best_of_group(pair, judge=judge)] == [0, 1]
        assert [verdict.score for verdict in best_of_group(pair, judge=judge, reading="published")] == [1, 0]


def test_a_judge_of_edits_sees_the_source_once_and_every_edit(tmp_path: Path) -> None:
    with serving(lambda _: "[[A]]") as server:
        judged(tmp_path, server.url, PAIRS[:1], "editreward_pairs")
    content = server.bodies[0]["messages"][1]["content"]
    assert [part["text"] for part in content[:-1] if part["type"] == "text"] == [
        "Image 1:",
        "Response A:",
        "Response B:",
    ]
    assert sum(part["type"] == "image_url" for part in content) == 3


def test_the_command_takes_a_layout(tmp_path: Path) -> None:
    file, out = write_rows(tmp_path, RB2, "jsonl"), tmp_path / "out.json"
    arguments = [
        "rewards", suite(tmp_path, "tests.eval.test_preference_sets:says_right"), str(file),
        "--layout", "rewardbench_2",
        "--json", str(out),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert "it as rewardbench_2 reports it" in result.stdout
    assert "Ties" in result.stdout
    assert json.loads(out.read_text())["numbers"]["it"]["Math"] == 1
