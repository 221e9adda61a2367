"""What is wrong with the rewards of a training, which a suite alone cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from rewards import REWARDS, RewardSpec, Rollout, get
from rewards.base import BRIEF

NAMES = {target: name for name, target in REWARDS.items()}
HEADS = ("reward_model", "multi_response", "process_model", "endogenous")  # that run a checkpoint on texts


def check_rewards(rewards: Mapping[str, RewardSpec]) -> None:
    """InputError for students whose labels would be lost or mixed with those of others."""
    folders: dict[Path, str] = {}
    for name, spec in rewards.items():
        for place, fn, args in _calls(name, spec):
            if fn == "student" and spec.deadline is not None:
                raise InputError(
                    f"{place}: a student with a deadline is in a process for whose labels no checkpoint waits; leave "
                    "the deadline out"
                )
            if fn == "student" and isinstance(args.get("labels"), str):
                _check_labels(place, args["labels"], folders)


def _check_labels(place: str, labels: str, folders: dict[Path, str]) -> None:
    folder = Path(labels).resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{place}: its labels {labels} are a file; give a folder")
    if folder in folders:
        raise InputError(f"{place}: its labels {labels} are those of {folders[folder]} too; give each a folder")
    folders[folder] = place


def check_heads(rewards: Mapping[str, RewardSpec]) -> None:
    """InputError for a reward whose head cannot be loaded, is another's, or gives no numbers: each is asked once.

    A trainer has been built by now, so that heads lie where they will be used.
    """
    for name, spec in rewards.items():
        for place, fn, args in _calls(name, spec) if spec.deadline is None else ():
            if fn in HEADS:
                verdicts = get(fn, **args)([Rollout(text, prompt="?", group=0) for text in ("Yes.", BRIEF)])
                if verdicts[0].kind == "failed":
                    raise InputError(f"{place}: {verdicts[0].why}")


def check_labels_left(rewards: Mapping[str, RewardSpec]) -> None:
    """InputError for a student of a run that goes on, whose labels of the steps before are gone."""
    for name, spec in rewards.items():
        for place, fn, args in _calls(name, spec):
            if fn == "student" and not any(Path(args["labels"]).glob("rank-*.jsonl")):
                raise InputError(f"{place}: the run goes on, and the labels in {args['labels']} are gone")


def _calls(name: str, spec: RewardSpec) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(place, function, options) of a reward, and of those among its options."""
    yield from _inner(f"rewards.{name}", {"fn": spec.fn, "args": spec.args})


def _inner(place: str, value: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return
    if isinstance(fn := value.get("fn"), str):
        yield place, NAMES.get(fn, fn), value.get("args") or {}
    for key, inner in value.items():
        yield from _inner(f"{place}.{key}", inner)
