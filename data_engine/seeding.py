"""Random draws by hashing: they depend on key and seed alone, not on order, workers or a generator's state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(*key: object) -> str:
    """A hash of the parts of `key`: 32 hex digits."""
    return hashlib.sha256("\0".join(map(str, key)).encode(errors="surrogatepass")).hexdigest()[:32]


def fraction(*key: object) -> float:
    """A number in [0, 1), uniform over keys and always the same for one key.

    >>> fraction("cat.png", 0) == fraction("cat.png", 0) != fraction("cat.png", 1)
    True
    """
    return int(digest(*key)[:13], 16) / 16**13


def shuffled(items: Iterable[str], *key: object) -> list[str]:
    """The items in an order drawn from `key`, independent of the input order.

    >>> shuffled(["a", "b", "c"], 7) == shuffled(["c", "a", "b"], 7)
    True
    """
    return sorted(items, key=lambda item: digest(*key, item))


def choice(question: str, right: str, others: Iterable[str], n: int, *key: object) -> tuple[str, dict[str, object]]:
    """(question with lettered options, answer) of a choice among `right` and up to `n - 1` of the others.

    >>> question, answer = choice("Which shape?", "circle", ["square"], 2, "picture 0")
    >>> question.splitlines()[0], sorted(answer["options"]), answer["options"]["AB".index(answer["choice"])]
    ('Which shape?', ['circle', 'square'], 'circle')
    """
    wrong = shuffled({other for other in others if other != right}, "wrong", *key)[: n - 1]
    options = shuffled([right, *wrong], "order", *key)
    return with_options(question, options), {"choice": letter(options.index(right)), "options": options}


def with_options(question: str, options: Iterable[str]) -> str:
    """The question with its options below it, one lettered line each."""
    return "\n".join([question, *(f"{letter(i)}. {option}" for i, option in enumerate(options))])


def letter(index: int) -> str:
    """The letter of the option at `index`, from 0.

    >>> letter(1)
    'B'
    """
    return chr(ord("A") + index)
