"""Preference samples of a run's own answers: the best and the worst of each group, by one of its rewards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from data_engine.dataset.writer import DatasetWriter
from data_engine.schema import Sample, with_id
from eval.records import RECORDS, TOTAL, Record, read_records, read_run
from mmrl.core.config import InputError, nearest, read_yaml
from mmrl.core.media.item import Media
from mmrl.core.media.kept import located
from mmrl.grpo.rollout_rows import files_by_step, rollout_rows
from mmrl.train.config import FOLDERS, schema_of
from mmrl.trainers.preferences import OF_TURNS, TASK

ANY = "\0"  # in the place of a reward's name: whichever there is


@dataclass(frozen=True)
class Group:
    """The answers to one prompt, each whole and with its score, or None where the reward gave none.

    An answer has what its prompt had written of it, such as `<think>`; `mmrl.trainers.targets.Answers` leaves that out.
    `of_turns` are the answers of several turns, of which it has what the policy said and not what tools returned.
    `cut` counts those that are left out: the token limit cut them, or they were injected.
    """

    id: str
    task: str
    prompt: list[dict[str, Any]]
    media: tuple[Media, ...]
    answers: list[tuple[str, float | None]]
    where: dict[str, Any]
    of_turns: frozenset[str] = frozenset()
    cut: int = 0


def write_pairs(run: Path, reward: str | None, out: Path, *, gap: float = 0.0) -> Counter[str]:
    """Write the pairs of `run`, the output of `mmrl train` or `mmrl eval run`, as a dataset to `out`; returns how many
    groups became a pair (`pairs`), and how many did not, by the cause.

    The best and the worst answer of a group must be more than `gap` apart. Answers without a score, injected ones and
    those that the token limit cut are no candidates.
    """
    groups, prompt = groups_of(run, reward)
    counts: Counter[str] = Counter()
    with DatasetWriter(out, name=out.name) as writer:
        writer.explain(origin={"sources": [], "operators": [], "prompt": prompt})
        for group in groups:
            made = pair_of(group, gap)
            counts["pairs" if isinstance(made, Sample) else made] += 1
            if isinstance(made, Sample):
                writer.add(made)
        if not counts["pairs"]:
            raise InputError(f"{run} gives no pairs: {listed(counts, 'groups') or 'it has no answers'}")
    return counts


def pair_of(group: Group, gap: float = 0.0) -> Sample | str:
    """The best and the worst answer of a group as a sample of the task `preference`, in the order in which they were
    drawn, or why there is none. Of equal scores the first drawn counts."""
    scored = [(score, place) for place, (_, score) in enumerate(group.answers) if score is not None]
    if len(scored) < 2:
        return f"fewer than two {'whole ' * bool(group.cut)}answers with a score"
    best, worst = max(scored, key=lambda each: (each[0], -each[1])), min(scored)
    if not best[0] - worst[0] > gap:
        return "no difference" if not gap else f"no difference above {gap:g}"
    places = sorted([best[1], worst[1]])
    candidates = [group.answers[place][0] for place in places]
    if not all(map(str.strip, candidates)) or candidates[0].strip() == candidates[1].strip():
        return "a blank answer, or the same answer twice"
    answer = {"candidates": candidates, "preferred": places.index(best[1])}
    meta = {"task": group.task, "scores": [group.answers[place][1] for place in places], **group.where}
    if group.of_turns.intersection(candidates):
        meta[OF_TURNS] = True
    return with_id(Sample("", "answers", TASK, group.prompt, answer, group.media, {"split": "train", **meta}))


def groups_of(run: Path, reward: str | None) -> tuple[Iterator[Group], dict[str, Any]]:
    """(the groups of a run with the scores of `reward`, how its questions were asked); ANY stands for any reward."""
    for place in (run, run / FOLDERS["latent"]):
        if (place / "rollouts").is_dir():
            return _trained(place, reward)
    return _recorded(run, reward)


def _trained(run: Path, reward: str | None) -> tuple[Iterator[Group], dict[str, Any]]:
    """(the groups of a training's rollouts, how their questions were asked)."""
    own = (run / "config.yaml").is_file()
    config, stage = read_yaml((run if own else run.parent) / "config.yaml"), "grpo" if own else "latent"
    name = _named(reward, list(config["rewards"]), run)
    length = "max_completion_length"
    limit = (config[stage] or {}).get(length) or schema_of(stage).__dataclass_fields__[length].default
    return _of_rollouts(files_by_step(run), name, limit), config.get("prompt") or {}


def _of_rollouts(files: Mapping[int, Path], reward: str, limit: int) -> Iterator[Group]:
    for step, file in files.items():
        for name, group in _grouped(rollout_rows(file), lambda row: row["id"]):
            first = group[0]
            drawn = [row for row in group if not row.get("injected") and row["tokens"] < limit]
            answers = [(row.get("opened", "") + row["completion"], row[f"score/{reward}"]) for row in drawn]
            media = tuple(located(first["media"], file.parent.parent))
            where = {"reward": reward, "of": name, "step": step}
            turns = [len(json.loads(row.get("turns") or "[]")) for row in drawn]
            prompt, of_turns, cut = json.loads(first["prompt"]), _of_turns(answers, turns), len(group) - len(drawn)
            yield Group(name, first["task"], prompt, media, answers, where, of_turns, cut)


def _recorded(run: Path, reward: str | None) -> tuple[Iterator[Group], dict[str, Any]]:
    """The same of an evaluation's records."""
    if not (run / RECORDS).is_file():
        raise InputError(f"{run} has neither rollouts nor records; give the output of mmrl train or mmrl eval run")
    info = read_run(run)
    if info.protocol["blind"]:
        raise InputError(f"{run} was made blind, without the media; its answers say nothing about them")
    name = _named(reward, [*info.suite["rewards"], TOTAL], run)
    return _of_records(read_records(run), name, run), info.protocol.get("prompt", {})


def _of_records(records: Sequence[Record], reward: str, run: Path) -> Iterator[Group]:
    for name, group in _grouped(records, lambda record: record.item_id):
        first = group[0]
        drawn = [record for record in group if "truncated" not in record.flags]
        answers = [
            (one.opened + one.response, one.total if reward == TOTAL else one.scores.get(reward)) for one in drawn
        ]
        media, of_turns = tuple(located(first.media, run)), _of_turns(answers, [len(one.turns) for one in drawn])
        where, cut = {"reward": reward, "of": name}, len(group) - len(drawn)
        yield Group(name, first.task, first.prompt, media, answers, where, of_turns, cut)


def _of_turns(answers: Sequence[tuple[str, float | None]], turns: Sequence[int]) -> frozenset[str]:
    """The answers of more than one turn."""
    return frozenset(text for (text, _), count in zip(answers, turns, strict=True) if count > 1)


def _named(reward: str | None, known: Sequence[str], run: Path) -> str:
    """The reward that decides: the named one, or the only one there is."""
    if reward == ANY or (reward is None and len({*known} - {TOTAL}) == 1):
        return known[0]
    if reward is None:
        raise InputError(f"{run} has the scores of {', '.join(known)}; name the one that decides with --reward")
    if reward not in known:
        raise InputError(f"{run} has no scores of {reward!r}; {nearest(reward, known)}")
    return reward


def _grouped(items: Iterable[Any], key: Any) -> Iterator[tuple[str, list[Any]]]:
    return ((name, list(group)) for name, group in groupby(sorted(items, key=key), key=key))


def listed(counts: Mapping[str, int], what: str) -> str:
    """How many of `what` were left out, by the cause."""
    return ", ".join(f"{count:,} {what}: {cause}" for cause, count in counts.items())
