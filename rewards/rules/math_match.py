"""The reward for mathematical answers: equal expressions, whatever their form."""

from __future__ import annotations

import functools
from typing import Annotated

from pydantic import Field

from rewards.base import Rollout, Verdict, abstain, failed, gold, per_reply, unparsed
from rewards.isolation.worker import Worker
from rewards.parse.extract import reply

_WORKER = Worker("rewards.isolation.math_worker:same")


@per_reply
def math_match(rollout: Rollout, *, deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0) -> Verdict:
    r"""1 if the answer is an expression equal to the gold one, as math-verify decides, else 0.

    Gold: `math`, in LaTeX or plain. Several answers are a set, so "1 or 2" is not 2, and so are boxes next to each
    other. A unit may be left out, but not be wrong. Decimals count to 6 places, and to 4 digits below 0.01; other
    numbers exactly. The comparison runs in a process of its own, which is killed after `deadline` seconds: then the
    completion scores 0, or, if the gold itself takes so long, there is no verdict. A gold of which a part cannot be
    read abstains.

    >>> right = {"math": r"\frac{1}{2}"}
    >>> [verdict.score for verdict in math_match([Rollout(r"So \boxed{0.5}", right), Rollout("$2$", right)])]
    [1.0, 0.0]
    """
    right = gold(rollout, "math")
    right = str(right) if isinstance(right, int | float) and not isinstance(right, bool) else right
    if not isinstance(right, str) or not right.strip():
        return abstain(f"gold math {right!r} is not an expression")
    text = reply(rollout.answered)
    if not text:
        return unparsed("no answer")
    try:
        same = _WORKER.ask((right, text), seconds=deadline)
    except (TimeoutError, RuntimeError) as error:  # WorkerError is one, and what sympy raises comes as one
        cause = str(error) or f"timed out after {deadline:g} s"
        return unparsed(f"an expression that {cause}") if _is_quick(right, deadline) else failed(cause)
    if same == "gold":
        return abstain(f"gold math {right[:80]!r} cannot be read, or not all of it")
    if same == "answer":
        return unparsed("no expression")
    return Verdict(1.0, f"said {text[-80:]}") if same else Verdict(0.0, f"said {text[-80:]}, gold {right[:80]}")


@functools.lru_cache(maxsize=1024)
def _is_quick(right: str, deadline: float) -> bool:
    """Whether the gold answer is compared with a plain number in time, so that it was the completion that was not."""
    try:
        return _WORKER.ask((right, "0"), seconds=deadline) != "gold"
    except (TimeoutError, RuntimeError):
        return False
