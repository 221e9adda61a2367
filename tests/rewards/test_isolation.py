"""A reward that hangs is killed at its deadline, in its own process, and counted as a failure."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrl.core.config import InputError
from rewards import RewardError, Rollout, Suite, get
from rewards.isolation.worker import Worker, WorkerError

HERE = __name__


def hangs_on(rollouts: Sequence[Rollout], *, word: str = "hang") -> list[float]:
    """1 for every completion, unless one has the word: then never."""
    while any(word in rollout.completion for rollout in rollouts):
        time.sleep(0.01)
    print("what a reward prints must not reach the pipe")
    return [1.0] * len(rollouts)


def crashes(rollouts: Sequence[Rollout]) -> list[float]:
    os._exit(3)


def process_of(question: str) -> int | str:
    if question == "hang":
        time.sleep(60)
    if question == "raise":
        raise ValueError("no such thing")
    return os.getpid()


def suite(**spec: object) -> Suite:
    return Suite({"r": {"fn": f"{HERE}:hangs_on", "deadline": 1.0, **spec}})


def test_a_rollout_that_hangs_fails_alone_and_in_time() -> None:
    mine = suite()
    rollouts = [Rollout("a"), Rollout("hang"), Rollout("b")]
    mine.score(rollouts[:1])  # the child has started
    start = time.monotonic()
    verdicts = [row["r"] for row in mine.score(rollouts)]
    assert time.monotonic() - start < 60
    assert [verdict.score for verdict in verdicts] == [1.0, None, 1.0]
    assert (verdicts[1].kind, verdicts[1].why) == ("failed", "timed out after 1 s")
    assert dict(mine.counts["r"]) == {"scored": 3, "failed": 1}


def test_the_groups_of_a_batch_stay_together_and_fail_together() -> None:
    rollouts = [Rollout("a", group=1), Rollout("hang", group=2), Rollout("b", group=2), Rollout("c", group=1)]
    scores = [row["r"].score for row in suite().score(rollouts)]
    assert scores == [1.0, None, None, 1.0]


def test_a_reward_that_always_hangs_stops_the_run() -> None:
    specs = {"r": {"fn": f"{HERE}:hangs_on", "deadline": 0.2, "args": {"word": ""}}}
    with pytest.raises(RewardError, match=r"timed out after 0\.2 s"):
        Suite(specs, min_calls=10).score([Rollout("x")] * 10)


def test_what_a_reward_imports_does_not_count_against_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "import time\ntime.sleep(1.5)\ndef one(rollouts):\n    return [1.0] * len(rollouts)\n"
    (tmp_path / "slow_to_import.py").write_text(slow)
    monkeypatch.syspath_prepend(tmp_path)
    verdict = Suite({"r": {"fn": "slow_to_import:one", "deadline": 1}}).score([Rollout("x")])[0]["r"]
    assert (verdict.score, verdict.why) == (1.0, "")


def test_a_crash_is_a_failure_too() -> None:
    verdict = Suite({"r": {"fn": f"{HERE}:crashes", "deadline": 5}}).score([Rollout("x")])[0]["r"]
    assert (verdict.kind, "died with status 3" in verdict.why) == ("failed", True)


def test_options_are_checked_before_any_process_starts() -> None:
    with pytest.raises(InputError, match="did you mean word"):
        suite(args={"wrod": "x"})
    with pytest.raises(InputError, match="deadline: Input should be greater than 0"):
        suite(deadline=0)


def test_a_deadline_may_lie_beyond_what_a_pipe_can_wait_for() -> None:
    worker = Worker("math:sqrt")
    assert worker.ask(9.0, seconds=1e12) == 3.0
    worker.close()


def test_a_worker_starts_again_after_it_was_killed() -> None:
    worker = Worker(f"{HERE}:process_of")
    first = worker.ask("", seconds=30)
    assert worker.ask("", seconds=30) == first != os.getpid()
    with pytest.raises(TimeoutError):
        worker.ask("hang", seconds=0.2)
    with pytest.raises(RuntimeError, match="ValueError: no such thing"):
        worker.ask("raise", seconds=30)
    assert worker.ask("", seconds=30) != first
    worker.close()
    with pytest.raises(RuntimeError, match="cannot import nowhere:nothing"):
        Worker("nowhere:nothing").ask("", seconds=1)
    with pytest.raises(WorkerError):
        Worker("os:_exit").ask(7, seconds=30)


@pytest.mark.parametrize(
    ("gold", "completion", "score"),
    [
        (r"\frac{1}{2}", "0.5", 1),
        (r"\frac{1}{2}", r"The answer is \frac{1}{2}", 1),
        ("1/2", r"so $\frac12$", 1),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", 1),
        ("x^2+2x+1", "<answer>(x+1)^2</answer>", 1),
        (3, "<answer>3 cm</answer>", 1),
        ("3", "x = 3", 1),
        (r"\{1, 2\}", "2, 1", 1),
        ("3", "<answer>The result is 3</answer>", 1),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", 1),
        (r"\begin{array}{ccc}1&2&3\end{array}", r"$\begin{array}{ccc}1&2&4\end{array}$", 0),
        ("1200", r"<answer>1\,200</answer>", 1),
        (r"\$1{,}200", r"\boxed{\$1200}", 1),
        ("(1, 200)", r"$(1,\,200)$", 1),
        ("2", "1 or 2", 0),
        ("2", "$2$ or $1$", 0),
        ("3", "4", 0),
    ],
)
def test_equal_expressions_match_in_any_form(gold: object, completion: str, score: float) -> None:
    verdict = get("math_match", deadline=30)([Rollout(completion, {"math": gold})])[0]
    assert (verdict.kind, verdict.score) == ("scored", score)


def test_an_unreadable_gold_abstains_and_an_unreadable_answer_is_0() -> None:
    reward = get("math_match", deadline=30)
    for gold in ("hello there", "", None):
        assert reward([Rollout("3", {"math": gold})])[0].kind == "abstained"
    for completion in ("", "no idea at all", "<think>never ends"):
        assert reward([Rollout(completion, {"math": "3"})])[0].kind == "unparsed"


def test_an_expression_beyond_the_deadline_is_the_fault_of_who_wrote_it() -> None:
    reward = get("math_match", deadline=2)
    bomb = "9^{" * 5 + "9" + "}" * 5
    said, asked, fine = reward(
        [Rollout(f"${bomb}$", {"math": "3"}), Rollout("3", {"math": bomb}), Rollout("3", {"math": "3"})]
    )
    assert (said.score, said.kind) == (0, "unparsed")
    assert asked.score is None
    assert fine.score == 1
