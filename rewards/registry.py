"""From names to rewards: the registry, checked options, rewards made of rewards."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from mmrl.core.config import Config, validate
from mmrl.core.registry import checked_options, options_of, resolve
from rewards.base import Reward, Rollout, Verdict, checked
from rewards.functions import of_rollouts
from rewards.isolation.deadline import deadlined

if TYPE_CHECKING:
    from rewards.judge_client.client import Judge

logger = logging.getLogger(__name__)

REWARDS = {
    "anls": "rewards.rules.text:anls",
    "blend": "rewards.composed.hybrid:blend",
    "bleu": "rewards.rules.text:bleu",
    "bmas": "rewards.rules.bmas:bmas",
    "box_iou": "rewards.rules.grounding:box_iou",
    "box_set": "rewards.rules.detection:box_set",
    "caption_language": "rewards.judged.captions:caption_language",
    "caption_precision": "rewards.judged.captions:caption_precision",
    "caption_recall": "rewards.judged.captions:caption_recall",
    "caption_utility": "rewards.judged.captions:caption_utility",
    "choice_match": "rewards.rules.exact_match:choice_match",
    "chrf": "rewards.rules.text:chrf",
    "clause_similarity": "rewards.heads.relevance:clause_similarity",
    "condition_match": "rewards.rules.conditions:condition_match",
    "content_match": "rewards.rules.content:content_match",
    "cosine_length": "rewards.rules.lengths:cosine_length",
    "each_step": "rewards.composed.steps:each_step",
    "edit_match": "rewards.rules.edits:edit_match",
    "edit_score": "rewards.judged.edits:edit_score",
    "edit_verifier": "rewards.judged.edits:edit_verifier",
    "embedding_similarity": "rewards.heads.embedding_similarity:embedding_similarity",
    "endogenous": "rewards.heads.endogenous:endogenous",
    "fallback": "rewards.composed.hybrid:fallback",
    "gate": "rewards.composed.hybrid:gate",
    "group_rank": "rewards.composed.shaping:group_rank",
    "judge": "rewards.judged.judge:judge",
    "json_format": "rewards.rules.format:json_format",
    "length_mask": "rewards.rules.lengths:length_mask",
    "length_penalty": "rewards.rules.lengths:length_penalty",
    "length_window": "rewards.rules.lengths:length_window",
    "math_match": "rewards.rules.math_match:math_match",
    "number_match": "rewards.rules.exact_match:number_match",
    "multi_response": "rewards.heads.multi_response:multi_response",
    "nugget_support": "rewards.judged.rubrics:nugget_support",
    "object_hallucination": "rewards.rules.object_hallucination:object_hallucination",
    "object_probing": "rewards.judged.object_probing:object_probing",
    "overlong": "rewards.rules.lengths:overlong",
    "partial_credit": "rewards.composed.hybrid:partial_credit",
    "point_match": "rewards.rules.detection:point_match",
    "principle_ranking": "rewards.judged.rubrics:principle_ranking",
    "process_model": "rewards.heads.process_model:process_model",
    "progressive": "rewards.composed.hybrid:progressive",
    "relaxed_match": "rewards.rules.text:relaxed_match",
    "relevance": "rewards.heads.relevance:relevance",
    "repetition": "rewards.rules.lengths:repetition",
    "reward_chain": "rewards.rules.text:reward_chain",
    "reward_model": "rewards.heads.reward_model:reward_model",
    "rouge_l": "rewards.rules.text:rouge_l",
    "rubric": "rewards.judged.rubrics:rubric",
    "self_hallucination": "rewards.judged.self_hallucination:self_hallucination",
    "scheduled": "rewards.composed.hybrid:scheduled",
    "shape": "rewards.composed.shaping:shape",
    "span_iou": "rewards.rules.grounding:span_iou",
    "sql_match": "rewards.rules.sql:sql_match",
    "student": "rewards.composed.student:student",
    "tag_format": "rewards.rules.format:tag_format",
    "text_match": "rewards.rules.exact_match:text_match",
    "think_format": "rewards.rules.format:think_format",
    "tool_call": "rewards.rules.tool_call:tool_call",
    "tool_format": "rewards.rules.tool_call:tool_format",
    "transport": "rewards.heads.transport:transport",
    "verifier_score": "rewards.judged.edit_chain:verifier_score",
    "yesno_match": "rewards.rules.exact_match:yesno_match",
}


class Call(Config):
    """A reward in YAML: the name of its function and its options, which may be rewards themselves.

    With a `deadline` in seconds it runs in a process of its own (`rewards.isolation.deadline`).
    """

    fn: str
    args: dict[str, Any] = Field(default_factory=dict)
    deadline: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None


def get(name: str, /, **options: Any) -> Reward:
    """The reward of a registered name or "module:function" with its options; InputError if one is wrong.

    An option that is a mapping with the key `fn` (and perhaps `args`) is a reward and is made one. A judge is given as
    a `Judge` or as the settings of one; in a suite also by its name.

    >>> get("number_match", rel_tol=0.1)([Rollout("<answer>21</answer>", answer=20)])[0].score
    1.0
    """
    return _reward(name, options, {})


def _reward(name: str, options: Mapping[str, Any], judges: Mapping[str, Judge]) -> Reward:
    function = of_rollouts(function_of(name))
    schema = options_of(function)
    built = {key: _built(value, judges) for key, value in options.items()}
    if "judge" in options and "judge" in schema.model_fields:
        built["judge"] = _judge(built["judge"], schema, judges)
    return checked(functools.partial(function, **checked_options(function, built, f"reward {name}")), name=name)


def function_of(name: str) -> Callable[..., Any]:
    """The function behind a registered name or a "module:function"."""
    return resolve(name, REWARDS, "reward")


def _built(value: Any, judges: Mapping[str, Judge]) -> Any:
    """`value` with the reward in place of every mapping in it that has the key `fn`."""
    if isinstance(value, Mapping) and "fn" in value:
        call = validate(Call, value, where=f"reward {value['fn']}")
        return made(call, judges)
    if isinstance(value, Mapping):
        return {key: _built(inner, judges) for key, inner in value.items()}
    return [_built(inner, judges) for inner in value] if isinstance(value, list) else value


def made(call: Call, judges: Mapping[str, Judge]) -> Reward:
    """The reward that a call asks for, under its deadline if it has one."""
    reward = _reward(call.fn, call.args, judges)
    if call.deadline is None:
        return reward
    asked = (call.fn, _spelled(call.args, judges))
    return checked(deadlined("rewards.registry:score", asked, call.deadline), name=call.fn)


_MADE: dict[str, Reward] = {}


def score(question: tuple[tuple[str, Mapping[str, Any]], Sequence[Rollout]]) -> list[Verdict]:
    """The verdicts of a reward of some name and options, in the process of `deadlined`, where it is made once."""
    logging.getLogger("mmrl.core.foreign").setLevel(logging.ERROR)  # the main process has told whose code this is
    (name, options), rollouts = question
    key = f"{name} {options!r}"
    if key not in _MADE:
        _MADE[key] = get(name, **options)
    return _MADE[key](rollouts) if rollouts else []


def _spelled(args: Any, judges: Mapping[str, Judge]) -> Any:
    """Options for another process: the settings of every judge instead of its name."""
    if isinstance(args, list):
        return [_spelled(inner, judges) for inner in args]
    if not isinstance(args, Mapping):
        return args
    spelled = {key: _spelled(inner, judges) for key, inner in args.items()}
    judge = args.get("judge")
    if isinstance(judge, str) and judge in judges:
        spelled["judge"] = judges[judge].spec.model_dump(mode="json")
    return spelled


def _judge(given: Any, schema: type[BaseModel], judges: Mapping[str, Judge]) -> Any:
    """The judge that the option `judge` means, if that option takes one."""
    from rewards.judge_client.client import Judge, judge_of

    return judge_of(given, judges) if schema.model_fields["judge"].annotation is Judge else given
