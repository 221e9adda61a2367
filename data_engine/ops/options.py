"""Multiple choice: options in random order, and choices that can be guessed without looking."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import PositiveFloat

from data_engine.operator import Dropped, Spool, each, stream
from data_engine.schema import Sample
from data_engine.seeding import digest, letter
from mmrl.core.messages import parts_of, prompt_text
from rewards.tasks.keys import without_letters

STYLES = ("{}. {}", "{}) {}", "({}) {}", "{}: {}", "({}). {}")  # how the lines of options are written
FIXED = re.compile(r"\b(above|below|both|neither|either|options?|choices?|[A-J] (?:and|or) [A-J])\b", re.IGNORECASE)


@each
def shuffle_options(sample: Sample, *, seed: int = 0) -> Sample | Dropped:
    """Put the options of a choice into a random order; `meta.option_order` says where each was before.

    Options stay in place if they speak of each other or of their order ("all of the above", "both A and B"), if they
    are letters, or bring them ("A. cat", "B. dog"). A sample is dropped if its prompt does not list the options, one
    lettered line each.
    """
    if sample.task != "choice":
        return sample
    options, gold = sample.answer["options"], _place(sample)
    places = range(len(options))
    cuts = [(media.sha256, media.start, media.end) for media in sample.media]
    drawn = digest(prompt_text(sample.prompt), *cuts)  # one question about many pictures is drawn for each
    order = sorted(places, key=lambda place: digest("options", seed, drawn, place, options[place]))
    lettered = without_letters(list(options)) != list(options)
    if lettered or any(FIXED.search(option) or re.fullmatch(r"\W*[A-Z]\W*", option) for option in options):
        order = list(places)
    shuffled = [options[place] for place in order]
    prompt = _relisted(sample.prompt, options, shuffled)
    if prompt is None:
        return Dropped(sample, "options_not_listed")
    first = _first_places(sample.meta.get("option_order"), len(options))
    answer = {**sample.answer, "options": shuffled, "choice": letter(order.index(gold))}
    return replace(
        sample, prompt=prompt, answer=answer, meta={**sample.meta, "option_order": [first[place] for place in order]}
    )


def _first_places(noted: Any, count: int) -> list[int]:
    """Where the options were at first, as an earlier shuffle noted it; a source may have used that key for something
    else."""
    places = list(range(count))
    is_order = isinstance(noted, list) and len(noted) == count and all(place in noted for place in places)
    return noted if is_order else places


class Guess(NamedTuple):
    """How often a way to guess without looking is right, of `n` choices, and how often chance would be."""

    strategy: str
    n: int
    right: int
    chance: float
    error: float  # the standard deviation of `right` if options were drawn

    @property
    def surplus(self) -> float:
        """How many more are right than by chance."""
        return self.right - self.chance


class _Picks(NamedTuple):
    """A choice in short: its id, the place of its gold, the number of options, and the pick of each strategy."""

    id: str
    gold: int
    options: int
    picks: dict[str, int]


def guesses(samples: Iterable[Sample]) -> list[Guess]:
    """How each strategy does against chance, on the choices for which it picks one option."""
    choices = [_picks(sample) for sample in samples if sample.task == "choice"]
    return [_guess(name, choices) for name in STRATEGIES]


@stream
def guessable(
    samples: Iterator[Sample], *, deviations: PositiveFloat = 3.0, seed: int = 0
) -> Iterator[Sample | Dropped]:
    """Drop choices until no way to guess without looking beats chance by more than `deviations` standard deviations.

    The strategies are: one fixed letter, the longest option, the shortest, the one that shares most words with the
    question. Of the choices that a strategy guesses, a random part is dropped as `guessed_by_NAME`: as many as bring it
    back to chance. This can raise another strategy, so the strategies are repeated until nothing is dropped.
    """
    spool, choices = Spool(), dict[int, _Picks]()
    for index, sample in enumerate(samples):
        spool.add(sample)
        if sample.task == "choice":
            choices[index] = _picks(sample)
    dropped: dict[int, str] = {}
    left, before = dict(choices), -1
    while len(dropped) > before:
        before = len(dropped)
        for name in STRATEGIES:
            guessed = _guessed_too_often(name, left, deviations, seed)
            dropped |= dict.fromkeys(guessed, f"guessed_by_{name}")
            for index in guessed:
                del left[index]
    for index, sample in enumerate(spool):
        yield Dropped(sample, dropped[index]) if index in dropped else sample


def _guessed_too_often(name: str, choices: Mapping[int, _Picks], deviations: float, seed: int) -> list[int]:
    """The choices to drop so that a strategy is right as often as chance; none if it already is, or nearly."""
    guess = _guess(name, list(choices.values()))
    if guess.surplus <= deviations * guess.error:
        return []
    right = [
        (digest(name, seed, choice.id), index)
        for index, choice in choices.items()
        if choice.picks.get(name) == choice.gold
    ]
    share = guess.chance / guess.n  # d are dropped so that of n - d choices this share, right - d, are right
    most = math.ceil(guess.surplus / (1 - share))
    return [index for _, index in sorted(right)[:most]]


def _picks(sample: Sample) -> _Picks:
    picks = {name: place for name, pick in STRATEGIES.items() if (place := pick(sample)) is not None}
    return _Picks(sample.id, _place(sample), len(sample.answer["options"]), picks)


def _guess(name: str, choices: Sequence[_Picks]) -> Guess:
    """How often a strategy names the gold, compared with a random option."""
    picked = [choice for choice in choices if name in choice.picks]
    odds = [1 / choice.options for choice in picked]
    right = sum(choice.picks[name] == choice.gold for choice in picked)
    return Guess(name, len(picked), right, sum(odds), math.sqrt(sum(p * (1 - p) for p in odds)))


def _place(sample: Sample) -> int:
    return ord(sample.answer["choice"]) - ord("A")


def _only_most(values: Sequence[float]) -> int | None:
    """The place of the largest value, if it is the only one."""
    most = max(values)
    return values.index(most) if values.count(most) == 1 else None


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w{3,}", text.casefold()))


def _shared_words(sample: Sample) -> int | None:
    options = sample.answer["options"]
    asked = _words(_question(prompt_text(sample.prompt), options))
    return _only_most([(asked & _words(option)).total() for option in options])


def _question(text: str, options: Sequence[str]) -> str:
    """The text without its lines of options."""
    for block in _blocks(options):
        text = text.replace(block, "")
    return text


def _letter_is(place: int) -> Callable[[Sample], int | None]:
    return lambda sample: place if place < len(sample.answer["options"]) else None


STRATEGIES: dict[str, Callable[[Sample], int | None]] = {  # a name -> the place of the option it picks
    **{f"letter_{letter(place)}": _letter_is(place) for place in range(6)},
    "longest": lambda sample: _only_most([len(option) for option in sample.answer["options"]]),
    "shortest": lambda sample: _only_most([-len(option) for option in sample.answer["options"]]),
    "shared_words": _shared_words,
}


def _blocks(options: Sequence[str]) -> list[str]:
    """The options as lines, in every style."""
    return ["\n".join(style.format(letter(i), option) for i, option in enumerate(options)) for style in STYLES]


def _relisted(prompt: Any, options: Sequence[str], shuffled: Sequence[str]) -> list[dict[str, Any]] | None:
    """The prompt with its lines of options in another order; None if they are not there just once."""
    for old, new in zip(_blocks(options), _blocks(shuffled), strict=True):
        places = [
            (m, p)
            for m, message in enumerate(prompt)
            for p, part in enumerate(parts_of(message["content"]))
            if part["type"] == "text" and f"\n{old}\n" in f"\n{part['text']}\n"
        ]
        if len(places) != 1:
            continue
        (m, p) = places[0]
        parts = parts_of(prompt[m]["content"])
        text = f"\n{parts[p]['text']}\n".replace(f"\n{old}\n", f"\n{new}\n", 1)[1:-1]
        parts[p] = {**parts[p], "text": text}
        return [*prompt[:m], {**prompt[m], "content": parts}, *prompt[m + 1 :]]
    return None
