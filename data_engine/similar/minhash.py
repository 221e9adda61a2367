"""Which texts are nearly the same: MinHash sketches of word triples, and an index of them.

Sketches and the hash tables of the index are rensa's (https://github.com/beowolx/rensa, MIT, in Rust). A sketch
depends on the text and the salt alone; of two texts with 12 or more words it estimates the common share of triples more
closely than 128 plain permutations do.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import repeat
from typing import Any

from data_engine.words import words
from mmrl.core.config import InputError

Sketch = Any  # rensa.RMinHash; rensa comes without types

PERMUTATIONS, SEED = 120, 20  # hashes of a sketch: 120 can be cut into bands of many sizes
LEAST_ROWS = 3  # hashes in the smallest bands: with fewer, nearly all texts would be compared with each other
SURELY = 0.999  # the chance that two texts which share what is asked for are compared

_ASCII = bytes(ord(chr(i).lower() if i < 128 and (chr(i).isalnum() or chr(i) == "_") else " ") for i in range(256))


def sketch(text: str, salt: bytes = b"") -> Sketch:
    """The sketch of the word triples of a text. Sketches of different salts have nothing in common."""
    plain = text.encode().translate(_ASCII) if text.isascii() else " ".join(words(text)).encode()
    padded = [b"", b"", *(plain.split() or [b""])]  # so that the shortest text has a triple
    salts = [repeat(salt)] if salt else []
    made = _rensa().RMinHash(PERMUTATIONS, SEED)
    made.update(
        map(b" ".join, zip(*salts, padded, padded[1:], padded[2:], strict=False))
    )  # as many as the shortest has
    return made


def sketch_from(state: bytes) -> Sketch:
    """The sketch whose `__getstate__` gave this."""
    made = _rensa().RMinHash(PERMUTATIONS, SEED)
    try:
        made.__setstate__(state)
    except ValueError as error:
        raise InputError(f"a sketch cannot be read ({error}); write the file again by mmrl data index") from None
    return made


def bands_for(share: float) -> int:
    """How many bands a sketch is cut into so that texts with that share of common triples are surely compared.

    Two texts are compared if they agree in all hashes of one band. Fewer bands mean fewer comparisons in vain. With the
    most, 40, texts that share half of their triples are compared with a chance of 99.5 %.

    >>> bands_for(0.9), bands_for(0.8), bands_for(0.5)
    (15, 24, 40)
    """
    for rows in reversed(range(LEAST_ROWS, PERMUTATIONS)):
        bands = PERMUTATIONS // rows
        if PERMUTATIONS % rows == 0 and 1 - (1 - share**rows) ** bands >= SURELY:
            return bands
    return PERMUTATIONS // LEAST_ROWS


class TextIndex:
    """Sketches of texts; those that share less than `least` of their triples may be missed."""

    def __init__(self, least: float = 0.5) -> None:
        self._bands = _rensa().RMinHashLSH(least, PERMUTATIONS, bands_for(least))
        self._sketches: list[Sketch] = []
        self._salts: dict[Hashable, bytes] = {}

    def sketch(self, text: str, key: Hashable) -> Sketch:
        """The sketch of a text that is compared only with those of the same key."""
        return sketch(text, self._salts.setdefault(key, b"%d" % len(self._salts)))

    def add(self, sketch: Sketch) -> int:
        """Append a sketch; returns its place."""
        self._bands.insert(len(self._sketches), sketch)
        self._sketches.append(sketch)
        return len(self._sketches) - 1

    def matches(self, sketch: Sketch, threshold: float) -> list[int]:
        """The places, ascending, of sketches that share at least `threshold` of the triples (estimated Jaccard)."""
        return sorted(
            place for place in self._bands.query(sketch) if sketch.jaccard(self._sketches[place]) >= threshold
        )


def _rensa() -> Any:
    try:
        import rensa
    except ModuleNotFoundError:
        raise InputError("to compare texts needs rensa: pip install 'mmrl-stack[data]'") from None
    return rensa
