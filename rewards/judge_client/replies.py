"""How replies of judges are read: strictly. A reply in another form than was asked for is not a verdict."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from rewards.chat_client.faults import Unreadable
from rewards.parse.extract import without_thinking

UNLIKELY = -100.0  # the log-probability of a token that is not among the likeliest

_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


def verdict(reply: str, key: str) -> dict[str, Any]:
    """The one JSON object that a reply consists of, after its thinking, if it repeats `key`.

    >>> verdict('<think>so</think>```json\\n{"key": "a1b2c3", "score": 7}\\n```', "a1b2c3")
    {'score': 7}
    """
    found = json_object(reply)
    if found.pop("key", None) != key:
        raise Unreadable("the reply does not repeat the key of the question")
    return found


def json_object(reply: str) -> dict[str, Any]:
    """The one JSON object that a reply consists of, fenced or not, after its thinking."""
    text = (without_thinking(reply) or "").strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not one JSON object: {error}") from None
    if not isinstance(found, dict):
        raise Unreadable(f"expected a JSON object, got {type(found).__name__}")
    return found


def number(found: dict[str, Any], name: str, low: float, high: float) -> float:
    """The number under `name`, within its range; out of range is an error, nothing is clipped."""
    return in_range(found.get(name), name, low, high)


def in_range(value: Any, name: str, low: float, high: float) -> float:
    """`value` as a number within its range.

    >>> in_range(7, "score", 0, 10)
    7.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{name} is {value!r:.50}, not a number")
    if not low <= value <= high or not math.isfinite(value):
        raise Unreadable(f"{name} is {value!r:.50}, not from {low:g} to {high:g}")
    return float(value)


def one_of(found: dict[str, Any], name: str, words: tuple[str, ...]) -> str:
    """The word under `name`, up to case, which must be one of `words`."""
    value = found.get(name)
    matching = [word for word in words if isinstance(value, str) and word.casefold() == value.strip().casefold()]
    if not matching:
        raise Unreadable(f"{name} is {value!r:.50}, not one of {', '.join(words)}")
    return matching[0]


def texts(found: dict[str, Any], name: str, most: int) -> list[str]:
    """The list of at most `most` texts under `name`, without blanks and repetitions (up to case and blanks)."""
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Unreadable(f"{name} is {value!r:.50}, not a list of texts")
    if len(value) > most:
        raise Unreadable(f"{name} has {len(value)} texts, more than {most}")
    first: dict[str, str] = {}
    for item in filter(str.strip, value):
        first.setdefault(" ".join(item.split()).casefold(), item.strip())
    return list(first.values())


def flags(found: dict[str, Any], name: str, count: int) -> list[bool]:
    """The list of exactly `count` booleans under `name`."""
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(item, bool) for item in value) or len(value) != count:
        raise Unreadable(f"{name} is {value!r:.80}, not a list of {count} times true or false")
    return value


def yes_and_no(reply: str) -> tuple[float, float]:
    """The log-probabilities of yes and no among those of first tokens, summed over case, blanks and stops.

    >>> yes_and_no('{"Yes": -0.5, " no": -2.0, "The": -3.0}')
    (-0.5, -2.0)
    """
    shares = {"yes": 0.0, "no": 0.0}
    for token, value in json_object(reply).items():
        word = token.strip(" \n\t.,▁Ġ").casefold()
        if word in shares:
            shares[word] += math.exp(in_range(value, token, -math.inf, 0.01))
    if sum(shares.values()) > 1.05:
        raise Unreadable(f"the first tokens yes and no have a probability of {sum(shares.values()):.2f} together")
    if not any(shares.values()):
        raise Unreadable("neither yes nor no is among the likeliest first tokens")
    yes, no = (math.log(share) if share else UNLIKELY for share in shares.values())
    return yes, no


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
