"""What rewards of text share: gold texts, answers as text, lengths, longest common subsequences, edit distances."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.parse.extract import SIGNS, answer_text, boxed

Unit = Literal["words", "characters"]

_WORD = re.compile(r"\w++")
_SIGN_OR_WORD = re.compile(rf"[{SIGNS}]|(?:(?![{SIGNS}])\w)++")


def gold_texts(rollout: Rollout) -> list[str]:
    """The gold texts that are not blank: `text` or `references` of the answer, or the answer itself, one or several."""
    value: Any = rollout.answer
    if isinstance(value, Mapping):
        value = value.get("references") if value.get("text") is None else value["text"]
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, Sequence):
        return []
    return [one for one in listed if isinstance(one, str) and one.strip()]


def texts_of(rollout: Rollout) -> tuple[str, list[str]] | Verdict:
    """The answer of the completion and the gold texts, or the verdict where one of them is missing."""
    golds = gold_texts(rollout)
    if not golds:
        return abstain("no gold text")
    text = answer_text(rollout.completion)
    if text is None:
        return unparsed("no answer: the thinking never ends")
    text = boxed(text).strip()  # a box inside the answer tags
    return (text, golds) if text else unparsed("empty answer")


def words(text: str) -> list[str]:
    """The words of a text, in one case and without punctuation; each kana and each Chinese character is one.

    >>> words("The cat's hat, 3.5!"), words("一只 cat")
    (['the', 'cat', 's', 'hat', '3', '5'], ['一', '只', 'cat'])
    """
    return (_WORD if text.isascii() else _SIGN_OR_WORD).findall(text.casefold())


def by_first_word(keywords: Iterable[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """The keywords that begin with each word, the longest first, as `mentions` looks for them."""
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for keyword in sorted(set(keywords), key=len, reverse=True):
        by_first.setdefault(keyword[0], []).append(keyword)
    return by_first


def mentions(said: Sequence[str], by_first: Mapping[str, Sequence[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """The keywords that occur in a text, in its order and with repetition, the longest first where several begin.

    >>> mentions("a hot dog and a dog".split(), by_first_word([("dog",), ("hot", "dog")]))
    [('hot', 'dog'), ('dog',)]
    """
    found: list[tuple[str, ...]] = []
    free = 0  # the first word that is not part of a mention
    for i in [i for i, word in enumerate(said) if word in by_first]:
        if i >= free and (
            match := next((one for one in by_first[said[i]] if tuple(said[i : i + len(one)]) == one), None)
        ):
            found.append(match)
            free = i + len(match)
    return found


def length(text: str, unit: Unit) -> int:
    """How long a text is, in blank-separated words or in characters."""
    return len(text) if unit == "characters" else len(text.split())


def common_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence (Hyyrö's bit-parallel algorithm on one big integer).

    >>> common_length("solar battery inverter".split(), "solar inverter battery".split())
    2
    """
    where: dict[Hashable, int] = {}
    for i, item in enumerate(a):
        where[item] = where.get(item, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        match = row & where.get(item, 0)
        row = (row + match | row - match) & full
    return len(a) - row.bit_count()


def edit_distance(a: str, b: str) -> int:
    """The least number of inserted, deleted and replaced characters between two texts (Myers' bit-parallel algorithm).

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    if not a:
        return len(b)
    where: dict[str, int] = {}
    for i, character in enumerate(a):
        where[character] = where.get(character, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << len(a) - 1
    up, down, distance = full, 0, len(a)
    for character in b:
        match = where.get(character, 0)
        diagonal = ((match & up) + up ^ up) | match | down
        rise, fall = down | ~(diagonal | up) & full, up & diagonal
        distance += bool(rise & last) - bool(fall & last)
        rise, fall = rise << 1 | 1, fall << 1
        up, down = (fall | ~(diagonal | rise)) & full, rise & diagonal & full
    return distance
