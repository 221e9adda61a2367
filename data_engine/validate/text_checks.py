"""Checks of the question, the options and the meta of a sample."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_engine.schema import SPLIT_NAME, Sample
from data_engine.validate.fault import Fault, Limits
from data_engine.words import words
from mmrl.core.messages import prompt_text
from rewards.tasks.keys import SEVERAL, TEXT
from rewards.tasks.table import OTHER, TASKS

# C0 and C1 but for tab and line ends, and what is invisible: soft hyphen, zero width, direction marks, byte order mark
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
ALTERNATIVES = re.compile(
    r"\b(or|oder|ou|o|или|between|among|than|versus|vs|compared?|choose|either|whether|which of)\b|/|或|还是|和",
    re.IGNORECASE,
)
SERIES = re.compile(r"\w,(?: \w+){1,3}(?:,| and)(?: \w+){1,3}")  # red, green, blue
SAID = re.compile(r"\b(answer|say|write|reply|respond|return|output|state|print|give)\b", re.IGNORECASE)
EMPTY_GOLDS = {"yes", "no", "none", "nothing", "unknown", "true", "false", "unanswerable", "na", "no one", "nobody"}
SPECIAL = re.compile(
    r"<\|[^|<>\n]{1,48}\|>"  # <|im_end|>, <|image_pad|>, <|begin_of_text|>, <|start_header_id|>
    r"|<[|\uff5c][^|<>\uff5c\n]{1,48}[|\uff5c]>"  # of DeepSeek, with full-width bars
    r"|</?(?:s|bos|eos|pad|unk|mask)>"
    r"|<(?:start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|end_of_utterance|eot|eom"
    r"|audio_soft_token|start_of_audio|end_of_audio)>|<\|turn>|<turn\|>"
    r"|</?(?:img|image_soft_token)>|<IMG_CONTEXT>|<(?:image|video|audio)_(?:token|pad|placeholder|start|end)>"
    r"|<(?:fake_token_around_image|global-img|row_\d+_col_\d+|image_newline|unused\d+)>"
    r"|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|\[gMASK\]|<<SYS>>"
)


def control_characters(sample: Sample, _: Limits) -> Fault | None:
    """Invisible characters in the prompt or the answer."""
    match = CONTROL.search(prompt_text(sample.prompt)) or next(
        filter(None, map(CONTROL.search, _texts(sample.answer))), None
    )
    if not match:
        return None
    fixed = replace(sample, prompt=_cleaned(sample.prompt), answer=_cleaned(sample.answer))
    return Fault(f"a text holds the character U+{ord(match[0]):04X}", fixed)


def answer_in_question(sample: Sample, _: Limits) -> Fault | None:
    """A question that contains the gold, unless it offers it among others ("red or blue?") or says to answer it.

    Numbers, single letters, and words such as "no" are no leak.
    """
    golds = sample.answer.get("text")
    if TASKS.get(sample.task, OTHER).keys != (TEXT,) or not isinstance(golds, list):
        return None
    asked = prompt_text(sample.prompt)
    question, places = words(asked), defaultdict[str, list[int]](list)
    for place, word in enumerate(question):
        places[word].append(place)
    if ALTERNATIVES.search(asked) or SERIES.search(asked):
        return None
    answers = (words(gold) for gold in golds if isinstance(gold, str) and _is_telling(gold))
    for answer in filter(None, answers):
        for at in places[answer[0]]:
            said = " ".join(question[max(at - 3, 0) : at])
            paired = "and" in question[max(at - 3, 0) : at] + question[at + len(answer) : at + len(answer) + 2]
            if question[at : at + len(answer)] == answer and not SAID.search(said) and not paired:
                return Fault(f"the question contains the answer, {' '.join(answer)!r:.100}")
    return None


def _is_telling(gold: str) -> bool:
    """Whether a question that holds a gold gives it away: numbers, letters and a "no" may stand there otherwise."""
    plain = " ".join(words(gold))
    return plain not in EMPTY_GOLDS and len(plain) > 1 and any(map(str.isalpha, plain))


def special_token(sample: Sample, _: Limits) -> Fault | None:
    """A control token of a model family in the question or the answer."""
    match = next(filter(None, map(SPECIAL.search, [prompt_text(sample.prompt), *_texts(sample.answer)])), None)
    return Fault(f"a text holds {match[0]!r}, a control token of some models; write it otherwise") if match else None


def several_golds(sample: Sample, _: Limits) -> Fault | None:
    """A choice with more than one right letter, or whose right option has two letters."""
    letter, options = sample.answer.get("choice"), _options(sample)
    if sample.task != "choice":
        return None
    if isinstance(letter, list | tuple) and len(letter) > 1:
        return Fault(f"the gold is {letter!r:.80}; a choice has one letter")
    if isinstance(letter, str) and SEVERAL.fullmatch(letter):
        return Fault(f"the gold is {letter!r:.80}; a choice has one letter")
    place = _place(letter)
    gold = options[place] if place is not None and place < len(options) else None
    same = [option for option in options if gold is not None and _same(option, gold)]
    return Fault(f"the gold option {same[0]!r:.80} has {len(same)} letters") if len(same) > 1 else None


def equal_options(sample: Sample, _: Limits) -> Fault | None:
    """Two options that differ only in case and blanks."""
    counts = Counter(" ".join(option.casefold().split()) for option in _options(sample))
    twice = [option for option, count in counts.items() if count > 1]
    return Fault(f"the option {twice[0]!r:.80} occurs {counts[twice[0]]} times") if twice else None


def no_gold_option(sample: Sample, _: Limits) -> Fault | None:
    """A gold letter without an option."""
    options, place = _options(sample), _place(sample.answer.get("choice"))
    if sample.task != "choice" or place is None or not options or place < len(options):
        return None
    return Fault(
        f"the gold is {sample.answer['choice']} and there are {len(options)} options; give one of their letters"
    )


def no_licence(sample: Sample, _: Limits) -> Fault | None:
    """A sample without a licence."""
    given = any(sample.meta.get(name) for name in ("licence", "license"))
    return None if given else Fault("meta names no licence; give one in the rows, or as licence of the source")


def no_source(sample: Sample, _: Limits) -> Fault | None:
    """A sample that does not name its source."""
    return None if sample.source.strip() else Fault("the sample names no source; give the source a name")


def bad_split(sample: Sample, _: Limits) -> Fault | None:
    """A split with a name that a shard cannot have."""
    split = sample.meta.get("split", "train")
    if isinstance(split, str) and SPLIT_NAME.fullmatch(split):
        return None
    rest = {key: value for key, value in sample.meta.items() if key != "split"}
    named = re.sub(r"\W", "_", split, flags=re.ASCII) if isinstance(split, str) else ""
    fixed = replace(sample, meta={**rest, "split": named} if named else rest) if split is None or named else None
    return Fault(f"the split {split!r:.80} has other characters than letters, digits and _", fixed)


def no_split(sample: Sample, _: Limits) -> Fault | None:
    """A sample whose source does not say to which split it belongs."""
    return None if sample.meta.get("split") else Fault("meta names no split; give it in the rows")


def _options(sample: Sample) -> list[str]:
    options = sample.answer.get("options") if sample.task == "choice" else None
    return [option for option in options if isinstance(option, str)] if isinstance(options, list | tuple) else []


def _place(letter: Any) -> int | None:
    return ord(letter) - ord("A") if isinstance(letter, str) and re.fullmatch("[A-Z]", letter) else None


def _same(first: str, second: str) -> bool:
    return first.casefold().split() == second.casefold().split()


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for item in inner for text in _texts(item)]


def _cleaned(value: Any) -> Any:
    """The JSON value without control characters in its texts."""
    if isinstance(value, str):
        return CONTROL.sub("", value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value
