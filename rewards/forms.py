"""What rewards read: the form of a completion, or a gold answer. Training asks it about a suite before it begins.

A reward of form scores how a completion looks, whatever it says: a task that nothing else scores teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmrl.core.config import InputError, nearest
from rewards.registry import REWARDS
from rewards.tasks.table import OTHER, TASKS

if TYPE_CHECKING:
    from rewards.suite import RewardSpec

Args = Mapping[str, Any]

OF_FORM = {"json_format", "length_penalty", "length_window", "overlong", "repetition"}
OF_FORM |= {"tag_format", "think_format", "tool_format"}
MADE_OF_REWARDS = {
    *("blend", "cosine_length", "each_step", "fallback", "gate", "group_rank", "length_mask", "length_penalty"),
    *("partial_credit", "progressive", "scheduled", "shape", "student"),
}
OF_PICTURES = {  # rewards that look at pictures that a policy has made
    *("condition_match", "content_match", "edit_match", "edit_score", "edit_verifier", "embedding_similarity"),
    *("judge", "transport"),
}
MARKS: dict[str, Callable[[Args], list[str]]] = {  # what a prompt names if it asks for the form that a reward reads
    "json_format": lambda args: ["JSON", *args.get("keys", ())],
    "tag_format": lambda args: [f"<{tag}>" for tag in args.get("tags", ("think", "answer"))],
    "think_format": lambda _: ["<think>", "<answer>"],
    "tool_call": lambda _: ["<tool_call>"],
    "tool_format": lambda args: ["<think>", f"<{args.get('answer', 'answer')}>"],
    "verifier_score": lambda _: ["<score>"],
}
_TEXTS = ("text", "references")
GOLDS: dict[str, tuple[str, ...]] = {  # the keys of the gold that a reward reads; without any of them it abstains
    "anls": _TEXTS,
    "bleu": _TEXTS,
    "bmas": _TEXTS,
    "box_iou": ("boxes",),
    "box_set": ("boxes",),
    "caption_recall": ("units", "references"),
    "caption_utility": ("questions",),
    "choice_match": ("choice",),
    "content_match": ("content",),
    "chrf": _TEXTS,
    "clause_similarity": _TEXTS,
    "math_match": ("math",),
    "nugget_support": ("nuggets",),
    "number_match": ("number",),
    "object_probing": ("objects",),
    "point_match": ("points", "boxes"),
    "relaxed_match": _TEXTS,
    "reward_chain": ("chain",),
    "rouge_l": _TEXTS,
    "rubric": ("rubric",),
    "span_iou": ("spans",),
    "sql_match": ("sql",),
    "text_match": ("text",),
    "tool_call": ("tools",),
    "yesno_match": ("yesno",),
    "object_hallucination": ("objects", "labels", *_TEXTS),
}
WITHOUT_GOLD = {  # they look at the completion with its question, its media or its group
    *(
        "caption_language",
        "caption_precision",
        "condition_match",
        "edit_match",
        "edit_score",
        "edit_verifier",
        "embedding_similarity",
        "endogenous",
    ),
    *(
        "judge",
        "multi_response",
        "principle_ranking",
        "process_model",
        "relevance",
        "reward_model",
        "self_hallucination",
    ),
    "transport",
    "verifier_score",
}
_NAMES = {place: name for name, place in REWARDS.items()}
SHOWN = 5  # rewards that a message names


def is_of_form(fn: str, args: Args) -> bool:
    """Whether a reward looks at the form alone; one made of rewards does if all of them do.

    >>> is_of_form("think_format", {}), is_of_form("gate", {"reward": {"fn": "tag_format"}, "when": {"fn": "anls"}})
    (True, False)
    """
    name, inner = _NAMES.get(fn, fn), list(_inner(args))
    return name in OF_FORM or (name in MADE_OF_REWARDS and bool(inner) and all(is_of_form(*each) for each in inner))


def can_score(fn: str, args: Args, golds: Collection[str]) -> bool:
    """Whether a reward reads more than form in completions whose gold has these keys; one of your own may.

    >>> can_score("choice_match", {}, ["text"]), can_score("my_lab:reward", {}, ["text"])
    (False, True)
    """
    name = _NAMES.get(fn, fn)
    if is_of_form(fn, args):
        return False
    if name in MADE_OF_REWARDS:
        return any(can_score(*each, golds) for each in _inner(args))
    return name not in GOLDS or bool(set(GOLDS[name]) & set(golds))


def sees_pictures(fn: str, args: Args) -> bool:
    """Whether a reward looks at pictures that a policy has made; one of your own may.

    >>> sees_pictures("edit_match", {}), sees_pictures("choice_match", {}), sees_pictures("my_lab:reward", {})
    (True, False, True)
    """
    name, inner = _NAMES.get(fn, fn), list(_inner(args))
    if name in MADE_OF_REWARDS:
        return any(sees_pictures(*each) for each in inner)
    return name in OF_PICTURES or name not in REWARDS


def check_sees_pictures(specs: Mapping[str, RewardSpec], where: str = "rewards") -> None:
    """InputError for a reward that reads what a model writes."""
    for name, spec in specs.items():
        if not sees_pictures(spec.fn, spec.args):
            raise InputError(
                f"{where}.{name}: {spec.fn} reads what a model writes; pictures are scored by "
                f"{', '.join(sorted(OF_PICTURES))}, or one of your own"
            )


def marks_of(fn: str, args: Args) -> list[str]:
    """What a prompt must name if it asks for the form that a reward reads, in the rewards inside of it as well.

    >>> marks_of("gate", {"reward": {"fn": "think_format"}, "when": {"fn": "choice_match"}})
    ['<think>', '<answer>']
    """
    mine = MARKS.get(_NAMES.get(fn, fn), lambda _: [])(args)
    return [*mine, *(mark for each in _inner(args) for mark in marks_of(*each))]


def check_substance(
    specs: Mapping[str, RewardSpec], golds: Mapping[str, Collection[str]], form_only: Collection[str] = ()
) -> None:
    """InputError for a task that rewards of form alone would score, unless `form_only` names it.

    `golds`: the tasks of the data, each with the keys of its golds. A weight of 0 counts as none.
    """
    for task in form_only:
        if task not in {*TASKS, *golds}:
            raise InputError(f"form_only: unknown task {task!r}; {nearest(task, {*TASKS, *golds})}")
    for task, keys in golds.items():
        mine = {n: spec for n, spec in specs.items() if (spec.tasks is None or task in spec.tasks) and spec.weight}
        if task in form_only or any(can_score(spec.fn, spec.args, keys) for spec in mine.values()):
            continue
        others = [f"{name} ({spec.fn})" for name, spec in mine.items()][:SHOWN]
        would = ", ".join(scorers(task, keys)) or "judge, or one of your own"
        raise InputError(
            f"no reward reads the answers of the task {task!r}, only {', '.join(others) or 'none'}: the policy would "
            f"learn a form and nothing else; add one that scores it ({would}), or say form_only: [{task}]"
        )


def scorers(task: str, golds: Collection[str]) -> list[str]:
    """Registered rewards that read a gold with these keys, the rule of the task first."""
    rule, keys = TASKS.get(task, OTHER).rule, set(golds)
    reading = [name for name in GOLDS if set(GOLDS[name]) & keys and name != rule]
    return [*([rule] if rule else []), *reading][:SHOWN]


def _inner(args: Any) -> Iterator[tuple[str, Args]]:
    """The rewards among the options of a reward."""
    if isinstance(args, Mapping):
        for value in args.values():
            if isinstance(value, Mapping) and "fn" in value:
                yield value["fn"], value.get("args", {})
            else:
                yield from _inner(value)
    elif isinstance(args, list | tuple):
        for value in args:
            yield from _inner({"": value})
