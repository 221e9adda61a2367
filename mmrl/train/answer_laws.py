"""How likely policies give the answers that runs have drawn, and how these score: what `eval.frontier` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.frontier import Answers
from eval.records import TOTAL, Record, RunInfo, flat_differences, read_records, read_run
from mmrl.core.config import InputError, nearest, validate
from mmrl.core.media.item import Media
from mmrl.core.media.kept import located
from mmrl.core.vision import VisionBudget
from mmrl.model.policy import load_policy
from mmrl.model.sampling import banned, vision_token_ids
from mmrl.trainers.collator import GivenAnswers
from rewards.prompt_form import PromptForm

AT_ONCE = 8  # answers in a forward
OWN = ("fingerprint",)  # settings in which the runs of a frontier differ


def drawn_answers(reference: Path, runs: Mapping[str, Path], reward: str = TOTAL) -> list[Answers]:
    """The different answers to each prompt that the runs have in common, with their laws under each run's model.

    The runs are evaluations of the same questions with sampled draws, at the same temperature. Of equal answers the
    mean score counts. An answer that the token limit cut is one without its end.
    """
    infos = {name: _checked(place, reward) for name, place in {"": reference, **runs}.items()}
    for name, info in infos.items():
        ours, theirs = ({k: v for k, v in i.protocol.items() if k not in OWN} for i in (infos[""], info))
        if changed := flat_differences(ours, theirs):
            raise InputError(f"{runs[name]} was not asked as {reference} was; they differ in {', '.join(changed)}")
        if name and all(info.protocol[key] == infos[""].protocol[key] for key in OWN):
            raise InputError(f"{runs[name]} is of the model of {reference}, from which it has not moved; leave it out")
    records = {name: _read(place) for name, place in {"": reference, **runs}.items()}
    items = set.intersection(*({one.item_id for one in own} for own in records.values()))
    if not items:
        raise InputError(f"{reference} and {', '.join(map(str, runs.values()))} have no question in common")
    grouped = {item: _distinct(records, item, reward) for item in sorted(items)}
    grouped = {item: found for item, found in grouped.items() if found}
    laws = {name: _laws(info, grouped) for name, info in infos.items()}
    return [
        Answers(
            item, np.array([score for _, score in found]), laws[""][item], {name: laws[name][item] for name in runs}
        )
        for item, found in grouped.items()
    ]


def _checked(place: Path, reward: str) -> RunInfo:
    info = read_run(place)
    protocol, known = info.protocol, [*info.suite["rewards"], TOTAL]
    if reward not in known:
        raise InputError(f"{place} has no scores of {reward!r}; {nearest(reward, known)}")
    if protocol.get("decoding") != "sampled" or protocol["top_p"] != 1 or protocol.get("decode"):
        raise InputError(f"{place} is no run of plain draws: do_sample: true, top_p: 1, and no decode")
    if protocol["blind"] or protocol.get("tools"):
        raise InputError(f"{place} was asked blind or with tools, where the answer alone has no probability")
    return info


def _read(run: Path) -> list[Record]:
    """The records of a run, with media that can be opened from elsewhere."""
    return [replace(one, media=[item.row() for item in located(one.media, run)]) for one in read_records(run)]


def _distinct(records: Mapping[str, Sequence[Record]], item: str, reward: str) -> list[tuple[Record, float]]:
    """The different answers to a question, with the mean of their scores."""
    scores: dict[tuple[str, bool], list[float]] = {}
    first: dict[tuple[str, bool], Record] = {}
    for record in (one for own in records.values() for one in own if one.item_id == item):
        score = record.total if reward == TOTAL else record.scores.get(reward)
        if score is not None:
            key = record.response, "truncated" in record.flags
            scores.setdefault(key, []).append(score)
            first.setdefault(key, record)
    return [(record, sum(scores[key]) / len(scores[key])) for key, record in first.items()]


def _laws(info: RunInfo, grouped: Mapping[str, Sequence[tuple[Record, float]]]) -> dict[str, Any]:
    """[Y] the probabilities of the answers to each question under the model of a run."""
    budget = VisionBudget(**info.protocol["vision"])
    model, processor = load_policy(info.model, budget)
    form = validate(PromptForm, info.protocol.get("prompt", {}), where=f"the prompt of {info.model}")
    given = GivenAnswers(processor, model.eval(), budget, form)
    temperature = info.protocol["temperature"]
    return {item: np.exp(_by_parts(given, [one for one, _ in found], temperature)) for item, found in grouped.items()}


def _by_parts(given: GivenAnswers, records: Sequence[Record], temperature: float) -> Any:
    parts = [records[start : start + AT_ONCE] for start in range(0, len(records), AT_ONCE)]
    return torch.cat([_log_probs(given, part, temperature) for part in parts]).numpy()


@torch.inference_mode()
def _log_probs(given: GivenAnswers, records: Sequence[Record], temperature: float) -> Tensor:
    """[B]: the log-probabilities of answers to one question, as they are drawn."""
    first = records[0]
    media = tuple(Media.from_row(row) for row in first.media)
    prompt = given.encoded({"id": first.item_id, "prompt": first.prompt, "media": media, "task": first.task})
    answers = []
    for record in records:
        tokens = given.answers.tokens(record.opened + record.response, prompt)
        answers.append(tokens[: -len(given.answers.ending)] if "truncated" in record.flags else tokens)
    inputs, answer_BT = given.batch([prompt] * len(records), answers)
    device = given.model.device
    logits_BTV = given.model(**{name: value.to(device) for name, value in inputs.items()}, use_cache=False).logits
    never = vision_token_ids(given.model.config, given.processor)
    scores_BTV = banned(logits_BTV.float().flatten(0, 1), never).view(logits_BTV.shape) / temperature
    found_BT = scores_BTV[:, :-1].log_softmax(dim=-1).gather(2, inputs["input_ids"][:, 1:, None].to(device))[..., 0]
    return found_BT.cpu().where(answer_BT[:, 1:], 0.0).double().sum(dim=1)
