"""Texts for rewards: gold texts, answers as text, words, the keywords in a text, lengths."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.parse.extract import SIGNS, answer_text, boxed, composed, undressed

Unit = Literal["words", "characters"]

USUAL_WORD = 10  # characters of a word with its blank, on average: a text of such words hides no long ones
LONGEST_WORD = 30  # characters; what is longer is no word of a language with blanks

NO_GOLD = abstain("no gold text")
UNCLOSED = unparsed("no answer: the thinking is not closed")
EMPTY = unparsed("empty answer")

_WORD = re.compile(r"\w++")
_SIGN = re.compile(f"[{SIGNS}]")
_SIGN_OR_WORD = re.compile(rf"[{SIGNS}]|(?:(?![{SIGNS}])\w)++")


def gold_texts(rollout: Rollout) -> list[str]:
    """The gold texts that are not blank: `text` or `references` of the answer, or the answer itself, one or several."""
    value: Any = rollout.answer
    if isinstance(value, (dict, Mapping)):  # the plain type first: asking the abstract one takes 0.3 us
        value = value.get("references") if value.get("text") is None else value["text"]
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, Sequence)):
        return []
    return [text for text in listed if isinstance(text, str) and text.strip()]


def texts_of(rollout: Rollout) -> tuple[str, list[str]] | Verdict:
    """The answer of the completion and the gold texts, without dress, or the verdict where one of them is missing."""
    golds = gold_texts(rollout)
    if not golds:
        return NO_GOLD
    text = answer_or_verdict(answer_text(rollout.answered))
    return text if isinstance(text, Verdict) else (text, [*map(bare, golds)])


def answer_or_verdict(text: str | None) -> str | Verdict:
    """An answer text out of its box and dress, or the verdict where there is none."""
    if text is None:
        return UNCLOSED
    text = undressed(composed(boxed(text))).strip()  # a box inside the answer tags
    return text or EMPTY


@functools.lru_cache(maxsize=4096)  # the rollouts of a group share their gold texts
def bare(text: str) -> str:
    """A gold text out of its dress."""
    return undressed(composed(text)) or text


def words(text: str) -> list[str]:
    """The words of a text, in one case and without punctuation; each kana and each Chinese character is one.

    >>> words("The cat's hat, 3.5!"), words("一只 cat")
    (['the', 'cat', 's', 'hat', '3', '5'], ['一', '只', 'cat'])
    """
    return (_WORD if text.isascii() else _SIGN_OR_WORD).findall(composed(text).casefold())


def by_first_word(keywords: Iterable[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """The keywords that begin with each word, the longest first, as `mentions` looks for them."""
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for keyword in sorted(set(keywords), key=len, reverse=True):
        by_first.setdefault(keyword[0], []).append(keyword)
    return by_first


def mentions(text_words: Sequence[str], by_first: Mapping[str, Sequence[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """The keywords that occur in a text, in its order and with repetition, the longest first where several begin.

    >>> mentions("a hot dog and a dog".split(), by_first_word([("dog",), ("hot", "dog")]))
    [('hot', 'dog'), ('dog',)]
    """
    found: list[tuple[str, ...]] = []
    free = 0  # the first word that is not part of a mention
    for i in [i for i, word in enumerate(text_words) if word in by_first]:
        if i >= free and (
            match := next(
                (keyword for keyword in by_first[text_words[i]] if tuple(text_words[i : i + len(keyword)]) == keyword),
                None,
            )
        ):
            found.append(match)
            free = i + len(match)
    return found


def length(text: str, unit: Unit) -> int:
    """How long a text is, in blank-separated words or in characters; what has no blanks is counted sign by sign.

    >>> length("It's red, 3.5 cm", "words"), length("一只红猫", "words"), length("red," * 10, "words")
    (4, 4, 10)
    """
    if unit == "characters":
        return len(text)
    found = text.split()
    if len(text) <= USUAL_WORD * len(found) and (text.isascii() or not _SIGN.search(text)):
        return len(found)
    return sum(1 if len(piece) <= LONGEST_WORD and piece.isascii() else _within(piece) for piece in found)


def _within(piece: str) -> int:
    """How many words a text without blanks is: its words, and a long one by its length."""
    found = words(piece)
    return sum(-(-len(word) // LONGEST_WORD) if len(word) > LONGEST_WORD else 1 for word in found) or 1


def pieces(text: str) -> list[str]:
    """The words of a text, of very long ones the characters."""
    found = words(text)
    if len(text) <= USUAL_WORD * len(found):
        return found
    return [piece for word in found for piece in (word if len(word) > LONGEST_WORD else (word,))]
