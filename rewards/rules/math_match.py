"""The reward for mathematical answers: equal expressions, whatever their form."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rewards.base import Rollout, Verdict, abstain, failed, gold, per_answer, unparsed
from rewards.isolation.worker import Worker, WorkerDied
from rewards.parse.extract import answer_text

_WORKER = Worker("rewards.isolation.math_worker:same")


@per_answer
def math_match(rollout: Rollout, *, deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0) -> Verdict:
    r"""1 if the answer is an expression equal to the gold one, as math-verify decides, else 0.

    Gold: `math`, in LaTeX or plain. Several answers are a set, so "1 or 2" is not 2. The comparison runs in a process
    of its own, which is killed after `deadline` seconds: no verdict. A gold that cannot be read abstains.

    >>> right = {"math": r"\frac{1}{2}"}
    >>> [verdict.score for verdict in math_match([Rollout(r"So \boxed{0.5}", right), Rollout("$2$", right)])]
    [1.0, 0.0]
    """
    right = gold(rollout, "math")
    right = str(right) if isinstance(right, int | float) and not isinstance(right, bool) else right
    if not isinstance(right, str) or not right.strip():
        return abstain(f"gold math {right!r} is not an expression")
    text = answer_text(rollout.completion)
    if not text:
        return unparsed("no answer")
    try:
        same = _WORKER.ask((right, text), seconds=deadline)
    except TimeoutError:
        return failed(f"timed out after {deadline:g} s")
    except WorkerDied as error:
        return failed(str(error))
    if same == "gold":
        return abstain(f"gold math {right!r} cannot be read")
    if same == "answer":
        return unparsed("no expression")
    return Verdict(1.0, f"said {text[-80:]}") if same else Verdict(0.0, f"said {text[-80:]}, gold {right[:80]}")
