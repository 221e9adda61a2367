"""TempCompass: choices, yes/no questions and captions about order and change in videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Medium, Metrics, Row, default, variant
from eval.benchmarks.cells import choice_answer, letter_index, yes_or_no
from eval.benchmarks.metrics import groups, micro, prefixed, scored_by, unparsed_share
from eval.benchmarks.scoring import by_protocol, prompt, reply_of
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.messages import user_text
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout, Verdict
from rewards.base import per_rollout, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judged_reward import verdict_of
from rewards.parse.choices import choice_letter
from rewards.parse.extract import answer_text

_NAMED_OPTION = re.compile(
    r"^((?:Caption|Option|Sentence|Description) (?:[A-H]|\d)|[A-H])[.:]\s*(.+?)\s*$", flags=re.MULTILINE
)


def tempcompass_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of TempCompass: a question with lines of options ("A. ...", "Caption 1: ..."), or a yes/no question."""
    question, right = str(row["question"]), str(row["answer"]).strip()
    lines = _NAMED_OPTION.findall(question)
    if lines:
        names, options = [name for name, _ in lines], [text for _, text in lines]
        place = next((i for i, name in enumerate(names) if re.match(rf"{name}(?!\w)", right)), None)
        if place is None:
            raise InputError(f"the answer {right!r} does not begin with one of {', '.join(names)}")
        answer: dict[str, Any] = choice_answer(options, place)
        answer |= {"names": names} if len(names[0]) > 1 else {}
        task = "choice"
    else:
        answer, task = {"yesno": yes_or_no(right)}, "yesno"
    yield Item(
        id=f"{row['video_id']}/{row['dim']}/{question}",
        task=task,
        text=question,
        answer=answer,
        media=(Medium(str(row.get("video") or f"{row['video_id']}.mp4"), "video"),),
        meta={"dimension": row["dim"], "kind": "caption_matching" if answer.get("names") else task},
        named=True,
    )


def captioning_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of TempCompass' captioning: a judge answers `mc_question` from the caption; `mc_answer` is "B. ..."."""
    quiz, right = str(row["mc_question"]), str(row["mc_answer"]).strip()
    options = [text for _, text in _NAMED_OPTION.findall(quiz)]
    answer = {**choice_answer(options, letter_index(right[:1])), "quiz": quiz}
    yield Item(
        id=f"{row['video_id']}/{row['dim']}/{quiz}",
        task="caption",
        text=str(row["question"]),
        answer=answer,
        media=(Medium(str(row.get("video") or f"{row['video_id']}.mp4"), "video"),),
        meta={"dimension": row["dim"]},
        named=True,
    )


def captioning_metrics(records: Sequence[Record]) -> Metrics:
    """The share of questions that a judge answers correctly from the caption, also by dimension."""
    parts = {name: micro(group, "judge_captioning") for name, group in groups(records, "dimension").items()}
    whole = {"judge_captioning": micro(records, "judge_captioning"), **prefixed("judge_captioning", parts)}
    return {**whole, "unparsed": unparsed_share(records, "judge_captioning")}


@per_rollout
def tempcompass_match(rollout: Rollout) -> Verdict:
    """TempCompass by rule: an option's line, name, number, letter or text; yes or no as the first word.

    Gold: `choice` and `options`, with `names` if options are not named A, B ...; or `yesno`.

    >>> two = {"choice": "B", "options": ["it runs", "it sits"], "names": ["Option 1", "Option 2"]}
    >>> texts = ("Option 2: it sits", "1", "it sits.")
    >>> [one.score for one in tempcompass_match([Rollout(text, two) for text in texts])]
    [1.0, 0.0, 1.0]
    """
    text, answer = answer_text(rollout.answered), rollout.answer
    if not text:
        return unparsed("no answer")
    if "yesno" in answer:
        begun = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
        if not begun:
            return unparsed("neither")
        return Verdict(float((begun[1].lower() == "yes") == answer["yesno"]), begun[1])
    letters = ascii_uppercase[: len(answer["options"])]
    names = answer.get("names") or letters
    predicted = text.casefold().lstrip("(*\"' ")
    begins = [bool(re.match(rf"{name.casefold()}(?!\w)", predicted)) for name in names]
    number = re.fullmatch(r"(\d+)[\s).:]*", predicted)
    if number:  # of "Option 1", the published rule takes the number alone
        begins = [name.endswith(f" {number[1]}") for name in names]
    named = sum(begins) == 1 and len(str(names[0])) > 1
    letter = letters[begins.index(True)] if named else choice_letter(text, letters, answer["options"])
    return unparsed("no option") if letter is None else Verdict(float(letter == answer["choice"]), f"answered {letter}")


@by_protocol
async def tempcompass_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The score by rule, or by a judge if the rule cannot parse the answer (TempCompass)."""
    ruled = tempcompass_match([rollout])[0]
    predicted = answer_text(rollout.answered)
    if ruled.kind != "unparsed" or not predicted:
        return ruled
    answer = rollout.answer
    right = _option(answer) if "choice" in answer else "yes" if answer["yesno"] else "no"
    data = {"question": user_text(rollout.prompt), "reference": right, "response": predicted}
    verdict = await verdict_of(
        judge,
        prompt("tempcompass"),
        data=data,
        parse=lambda reply: replies.one_of(reply, "verdict", ("correct", "incorrect")),
    )
    return Verdict(float(verdict == "correct"), f"{prompt('tempcompass').name}: {verdict}")


@by_protocol
async def caption_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """1 if a judge that reads the caption alone chooses the right option (TempCompass captioning; gold: `choice`,
    `options`, `quiz`). Its reply must contain exactly one option, such as "B."."""
    predicted = answer_text(rollout.answered)
    if not predicted:
        return unparsed("no caption")
    answer: Any = rollout.answer
    letters = ascii_uppercase[: len(answer["options"])]
    data = {"caption": predicted, "question": str(answer["quiz"])}
    letter = await reply_of(judge, prompt("tempcompass_caption"), lambda reply: one_option(reply, letters), data=data)
    return Verdict(float(letter == answer["choice"]), f"{prompt('tempcompass_caption').name}: picks {letter}")


def one_option(reply: str, letters: str) -> str:
    """The only letter that occurs with a period.

    >>> one_option("B. running", "ABC")
    'B'
    """
    chosen = [letter for letter in letters if re.search(rf"(?<![A-Za-z]){letter}\.", reply)]
    if len(chosen) != 1:
        raise Unreadable(f"{len(chosen)} options of {letters} in {reply!r:.50}")
    return chosen[0]


def _option(answer: Any) -> str:
    """The right option with its name."""
    place = ascii_uppercase.index(answer["choice"])
    return f"{(answer.get('names') or ascii_uppercase)[place]}. {answer['options'][place]}"


BENCHMARKS = [
    Benchmark(
        name="tempcompass",
        version=2,
        about="A letter, an option line, or yes or no about order and change in a video. Accuracy by dimension.",
        hub="lmms-lab/TempCompass",
        columns=("video_id", "question", "answer", "dim"),
        items=tempcompass_items,
        scorers={"accuracy": default("eval.benchmarks.published.tempcompass:tempcompass_match")},
        metrics=scored_by("dimension", "kind"),
        folders=("multi-choice", "yes_no", "caption_matching"),
        judged={"judge_published": variant("eval.benchmarks.published.tempcompass:tempcompass_judged")},
    ),
    Benchmark(
        name="tempcompass_captioning",
        about="A description of a video. A judge answers a question from it.",
        hub="lmms-lab/TempCompass",
        columns=("video_id", "question", "dim", "mc_question", "mc_answer"),
        items=captioning_items,
        scorers={},
        metrics=captioning_metrics,
        known_by="judge_captioning",
        rows=2004,
        judged={"judge_captioning": default("eval.benchmarks.published.tempcompass:caption_judged")},
        needs="a judge (published: GPT-3.5)",
        folders=("captioning",),
    ),
]
