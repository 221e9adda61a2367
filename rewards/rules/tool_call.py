"""The reward for calls of tools."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import without_thinking

Variant = Literal["full", "coarse", "refined", "intermediate"]
Call = tuple[str, Mapping[str, Any]]

_BLOCK = re.compile(r"<tool_call>([^<]*+(?:<(?!/?tool_call>)[^<]*+)*+)</tool_call>")


@per_rollout
def tool_call(rollout: Rollout, *, variant: Variant = "full") -> Verdict:
    r"""How well the calls of tools agree with the gold calls: names, parameter names and values (ToolRL, 2504.13958).

    Gold: `tools`, a list of objects with `name` and `parameters`, which templates call `arguments`. Calls stand in
    `<tool_call>` blocks, one JSON object a line. The paper's range of [-3, 3] becomes [0, 1]. With J the multiset
    Jaccard index: J of the names, and for each gold call the best unused call of its name, J of the parameter names and
    1 for each equal value, over the largest possible sum. `variant`: `full` is this, `coarse` is all or nothing,
    `refined` makes each J all or nothing, `intermediate` counts equal calls. Where no call is wanted, any call scores
    0; ToolRL gives 0 with and without one.

    >>> call = {"name": "search", "parameters": {"q": "cat", "k": 5}}
    >>> lines = '{"name": "search", "parameters": {"q": "cat", "k": 6}}', json.dumps(call)
    >>> completions = [Rollout(f"<tool_call>\n{line}\n</tool_call>", {"tools": [call]}) for line in lines]
    >>> [verdict.score for verdict in tool_call(completions)]
    [0.75, 1.0]
    """
    wanted = _calls(gold(rollout, "tools"))
    if wanted is None:
        return abstain("gold tools are not objects with name and parameters")
    text = without_thinking(rollout.answered)
    if not text or not text.strip():
        return unparsed("nothing after the thinking")
    blocks = _BLOCK.findall(text)
    if not wanted:
        called = "<tool_call>" in text
        return Verdict(float(not called), "a call that is not wanted" if called else "no call, as wanted")
    try:
        made = _calls([json.loads(line) for block in blocks for line in block.splitlines() if line.strip()])
    except (ValueError, RecursionError):
        made = None
    if not blocks or made is None:
        return unparsed("no tool calls that can be read")
    score = 1.0 if made == wanted else 0.0 if variant == "coarse" else share(wanted, made, variant)
    return Verdict(score, f"{len(made)} calls for {len(wanted)}, correctness {6 * score - 3:.2f}")


@per_rollout
def tool_format(rollout: Rollout, *, answer: str = "answer") -> Verdict:
    r"""1 if thoughts, calls and answer stand in their tags, with nothing but blanks between, else 0.

    Gold `tools` decides which tags are wanted, as in ToolRL (2504.13958): `<think>`, then `<tool_call>` if calls are
    wanted, then `answer` (there `response`) if the gold has anything else. Without gold `tools` a completion may have
    turns: each has thoughts and calls, the last has thoughts and an answer.

    >>> call = '<tool_call>\n{"name": "zoom"}\n</tool_call>'
    >>> once, twice = f"<think>7?</think>\n{call}", f"<think>7?</think>{call}\n<think>no</think><answer>1</answer>"
    >>> [tool_format([Rollout(said, {"tools": [{"name": "zoom"}]})])[0].score for said in (once, twice)]
    [1.0, 0.0]
    >>> [tool_format([Rollout(said, {"number": 1.0})])[0].score for said in (once, twice)]
    [0.0, 1.0]
    """
    parts = _tags(answer).split(rollout.answered.strip())
    order = "".join(_LETTERS.get(tag) or ("A" if tag.startswith("</") else "a") for tag in parts[1::2])
    wanted = gold(rollout, "tools") if isinstance(rollout.answer, Mapping) else None
    if wanted is None:
        right = bool(_TURNS.fullmatch(order))
    else:
        right = order == "tT" + "cC" * bool(wanted) + "aA" * bool(rollout.answer.keys() - {"tools"})
    if not right:
        return Verdict(0.0, "tags are missing, twice there, or out of order")
    if any(text.strip() for text in parts[0::4]):
        return Verdict(0.0, "text outside of the tags")
    return Verdict(1.0)


def _tags(answer: str) -> re.Pattern[str]:
    return re.compile(rf"(</?(?:think|tool_call|{re.escape(answer)})>)")


_TURNS = re.compile(r"(?:tT(?:cC)+)*tTaA")
_LETTERS = {"<think>": "t", "</think>": "T", "<tool_call>": "c", "</tool_call>": "C"}


def share(wanted: Sequence[Call], made: Sequence[Call], variant: Variant) -> float:
    """The points of the calls that were made, over the most that could be had."""
    overlap = _equal if variant == "refined" else _jaccard
    points, most = overlap([name for name, _ in wanted], [name for name, _ in made]), 1.0
    unused = list(made)
    for name, parameters in wanted:
        most += 1 if variant == "intermediate" else 1 + len(parameters)
        values = [_points(parameters, other, variant) if name == called else 0.0 for called, other in unused]
        best = max(range(len(unused)), key=values.__getitem__, default=None)
        if best is not None and values[best] > 0:
            points += values[best]
            del unused[best]
    return points / most


def _points(wanted: Mapping[str, Any], made: Mapping[str, Any], variant: Variant) -> float:
    if variant == "intermediate":
        return float(wanted == made)
    names = (_equal if variant == "refined" else _jaccard)(list(wanted), list(made))
    return names + sum(key in made and made[key] == value for key, value in wanted.items())


def _jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    if list(a) == list(b):
        return 1.0
    common = (Counter(a) & Counter(b)).total()
    return common / (len(a) + len(b) - common)


def _equal(a: Sequence[str], b: Sequence[str]) -> float:
    return float(Counter(a) == Counter(b))


def _calls(value: Any) -> list[Call] | None:
    """Calls as (name, parameters), or None if one of them is something else."""
    calls = []
    for call in value if isinstance(value, list | tuple) else [None]:
        if not isinstance(call, Mapping):
            return None
        name, parameters = call.get("name"), call.get("parameters", call.get("arguments"))
        if not isinstance(name, str) or not isinstance(parameters, Mapping):
            return None
        calls.append((name, dict(parameters)))
    return calls
