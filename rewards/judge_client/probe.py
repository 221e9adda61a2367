"""One short question to each judge before long work begins: a server that is not there is better found then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmrl.core.config import validate
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_spec import JudgeSpec

QUESTION = Ask("probe", "You answer in one word.", "Reply with the word: ready")


def unreached(judges: Mapping[str, JudgeSpec]) -> dict[str, str]:
    """The judges that give no reply, and why. Nothing is counted or kept; checkpoints in this process are not asked."""
    causes: dict[str, str] = {}
    for name, spec in judges.items():
        if spec.backend == "hf":
            continue
        judge = Judge(spec.model_copy(update={"cache": None, "retries": min(spec.retries, 1)}), name)
        [outcome] = judge.ask_all([QUESTION])
        judge.close()
        if outcome.cause:
            causes[name] = f"{spec.model} at {spec.base_url}: {outcome.cause}, {outcome.detail}"
    return causes


def judges_in(options: Any, name: str) -> Iterator[tuple[str, JudgeSpec]]:
    """The judges whose settings stand among the options of a reward, with a name for each."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            if key == "judge" and isinstance(value, Mapping):
                yield name, validate(JudgeSpec, value, where=f"{name}: judge")
            else:
                yield from judges_in(value, f"{name}.{key}")
