"""What is wrong with rewards only beside each other, or beside the policy: a suite alone cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from rewards import REWARDS, RewardSpec, Rollout, get
from rewards.base import BRIEF

NAMES = {target: name for name, target in REWARDS.items()}
HEADS = ("reward_model", "multi_response", "process_model", "endogenous")  # that run a checkpoint on texts


def check_rewards(rewards: Mapping[str, RewardSpec], model: str) -> None:
    """InputError for a reward that asks the policy `model` about itself, and for students that share their labels."""
    folders: dict[Path, str] = {}
    for place, fn, args in _calls(rewards):
        if fn == "endogenous" and _same(str(args.get("model")), model):
            raise InputError(
                f"{place}: its model is the policy, {model}; how likely it finds its own words is no reward"
            )
        if fn == "student" and isinstance(args.get("labels"), str):
            folder = Path(args["labels"]).resolve()
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{place}: its labels {args['labels']} are a file; give a folder")
            if folder in folders:
                raise InputError(
                    f"{place}: its labels {args['labels']} are those of {folders[folder]} too; give each a folder"
                )
            folders[folder] = place


def check_heads(rewards: Mapping[str, RewardSpec]) -> None:
    """InputError for a reward whose head cannot be loaded, is another's, or gives no numbers: each is asked once.

    A trainer has been built by now, so that heads lie where they will be used.
    """
    for place, fn, args in _calls({name: spec for name, spec in rewards.items() if spec.deadline is None}):
        if fn in HEADS:
            verdicts = get(fn, **args)([Rollout(text, prompt="?", group=0) for text in ("Yes.", BRIEF)])
            if verdicts[0].kind == "failed":
                raise InputError(f"{place}: {verdicts[0].why}")


def _calls(rewards: Mapping[str, RewardSpec]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(place, function, options) of all rewards, and of those among their options."""
    for name, spec in rewards.items():
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


def _same(one: str, other: str) -> bool:
    """Whether two names are of one checkpoint, also through links."""
    places = Path(one), Path(other)
    return one == other or (all(place.exists() for place in places) and places[0].samefile(places[1]))
