"""A model's verdict on any completion: a score, yes or no, or a comparison with the gold text."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mmrl.core.config import InputError, nearest
from mmrl.core.messages import user_text
from rewards.base import Rollout, Verdict, abstain, gold, unparsed
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import shown
from rewards.judge_client.judged_reward import judged, verdict_of
from rewards.judge_client.templates import KEY, Template, places, template
from rewards.parse import extract

Mode = Literal["score", "yesno", "pairwise"]
VALUES = {
    "score": {"question", "response", "reference", "criteria", "top", "key"},
    "yesno": {"question", "response", "reference", "criteria", "key"},
    "pairwise": {"question", "first", "second", "criteria", "key"},
}
NEEDED = ({"response", "key"}, {"first", "second", "key"})  # of score and yesno, of pairwise
MADE = "The last picture is the answer."  # of a policy that makes pictures
WINS = {"A": 1.0, "tie": 0.5, "B": 0.0}


def judge_prompt(given: Any) -> Any:
    """The template of a name or `.txt` file, if it takes what this reward gives."""
    if not isinstance(given, str):
        return given
    found, known = template(given), set().union(*VALUES.values())
    for name in sorted(found.values - known):
        raise InputError(f"prompt {given} asks for {{{{{name}}}}}; {nearest(name, known)}")
    if not any(needed <= found.values for needed in NEEDED):
        needed = " or (mode pairwise) ".join(map(places, NEEDED))
        rest = places(known.difference(*NEEDED))
        raise InputError(f"prompt {given} must hold {needed}, and may hold {rest}. Of {{{{key}}}}: {KEY}")
    return found


@judged
async def judge(
    rollout: Rollout,
    *,
    judge: Judge,
    mode: Mode = "score",
    prompt: Annotated[Template | None, BeforeValidator(judge_prompt)] = None,
    principles: tuple[str, ...] = (),
    rubric: str = "",
    top: Annotated[int, Field(ge=1)] = 10,
    show: bool = True,
) -> Verdict:
    """A judge's verdict on the answer: its score over `top`; 1 or 0 for yes or no; or 1, 0.5, 0 against the gold text.

    `mode` is `score`, `yesno` or `pairwise`. The judge gets the question, the media (unless `show` is false), the gold
    answer, `principles` (one text each, 2506.03637) and a `rubric`, and the answer text, quoted as data. `prompt` names
    another template. `pairwise` asks in both orders and takes the mean, so that a judge that prefers a place gives 0.5
    (gold: `text` or the first of `references`; or the one of `candidates` that is `preferred`). One call, `pairwise`
    two.
    """
    response = extract.answer_text(rollout.answered) or (MADE if rollout.made else "")
    if not response:
        return unparsed("no answer to judge")
    used = prompt or template(f"judge_{mode}")
    if not used.values <= VALUES[mode]:
        raise ValueError(f"prompt {used.name} is not for the mode {mode}")
    plain = {"criteria": _criteria(principles, rubric)} | ({"top": str(top)} if mode == "score" else {})
    asked = functools.partial(verdict_of, judge, used, plain=plain, shown=shown(rollout.all_media) if show else ())
    question = user_text(rollout.prompt)
    if mode == "pairwise":
        opponent = _gold_text(rollout)
        if opponent is None:
            return abstain("no gold text to compare with")
        orders = ({"first": response, "second": opponent}, {"first": opponent, "second": response})
        verdicts = await asyncio.gather(*(asked(data={"question": question, **pair}, parse=_winner) for pair in orders))
        score = (WINS[verdicts[0]] + 1 - WINS[verdicts[1]]) / 2
        return Verdict(score, f"{used.name}: {verdicts[0]} as A, {verdicts[1]} as B")
    data = {"question": question, "response": response, "reference": _reference(rollout)}
    if mode == "yesno":
        word, reason = await asked(data=data, parse=_yes_or_no)
        return Verdict(float(word == "yes"), _why(f"{used.name}: {word}", reason))
    score, reason = await asked(data=data, parse=functools.partial(_score, top=top))
    return Verdict(score / top, _why(f"{used.name}: {score:g} of {top}", reason))


def _criteria(principles: tuple[str, ...], rubric: str) -> str:
    listed = "\n".join(f"- {principle}" for principle in principles)
    blocks = [f"Principles, all of which count:\n{listed}" if listed else "", f"Rubric:\n{rubric}" if rubric else ""]
    return "\n\n".join(filter(None, blocks)) or "Judge whether it is correct, complete and to the point."


def _reference(rollout: Rollout) -> str:
    """The gold answer as a judge reads it: its texts, one a line; JSON where it is none."""
    texts = gold(rollout, "text") or gold(rollout, "references")
    listed = [texts] if isinstance(texts, str) else texts
    if isinstance(listed, list) and listed and all(isinstance(text, str) for text in listed):
        return "\n".join(listed)
    return json.dumps(rollout.answer, ensure_ascii=False, default=str)


def _gold_text(rollout: Rollout) -> str | None:
    """The first gold text, or the preferred candidate."""
    found, answer = gold(rollout, "text") or gold(rollout, "references"), rollout.answer
    if isinstance(answer, Mapping) and isinstance(answer.get("candidates"), list):
        found = [candidate for i, candidate in enumerate(answer["candidates"]) if i == answer.get("preferred")]
    first = found[0] if isinstance(found, list | tuple) and found else found
    return first if isinstance(first, str) and first.strip() else None


def _score(found: dict[str, Any], *, top: int) -> tuple[float, str]:
    return replies.number(found, "score", 0, top), _reason(found)


def _yes_or_no(found: dict[str, Any]) -> tuple[str, str]:
    return replies.one_of(found, "verdict", ("yes", "no")), _reason(found)


def _winner(found: dict[str, Any]) -> str:
    return replies.one_of(found, "verdict", tuple(WINS))


def _why(verdict: str, reason: str) -> str:
    return f"{verdict}, {reason}" if reason else verdict


def _reason(found: dict[str, Any]) -> str:
    return str(found.get("reason", ""))[:200]
