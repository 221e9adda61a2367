"""Which texts say nearly the same: MinHash signatures of word triples, many texts at a time, and an index of them."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

PERMUTATIONS = 128
BANDS = 32  # of four hashes: texts that share half of their triples meet with 87 %, those that share 0.8 always
TRIPLE = 3
PIECE = 2048  # triples whose hashes are in the cache of the processor at a time
SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts in which a character counts as a word
WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")

_draws = np.random.Generator(np.random.PCG64(20)).integers(0, 2**32, (2, PERMUTATIONS), np.uint32)
_FACTORS, _SHIFTS = _draws[0] | 1, _draws[1]
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation.

    >>> words("Where's the RED bus?")
    ['where', 's', 'the', 'red', 'bus']
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def numbers(text: str) -> tuple[str, ...]:
    """The numbers of a text: questions that differ in them are not the same question."""
    return tuple(NUMBER.findall(text))


def signatures(texts: Sequence[str]) -> np.ndarray:
    """MinHash signatures, uint32 [texts, PERMUTATIONS]; the share of equal columns estimates the share of triples."""
    split = [words(text) for text in texts]
    known = {word: zlib.crc32(word.encode()) for word in set().union(*split)}
    signed = np.empty((len(texts), PERMUTATIONS), np.uint32)
    for first, last in _pieces([len(one) for one in split]):
        ends = np.cumsum([max(len(one), 1) + TRIPLE - 1 for one in split[first:last]])
        starts = np.concatenate([[0], ends[:-1]])
        hashed = np.zeros(
            ends[-1] + TRIPLE - 1, np.uint64
        )  # each text is padded in front, so the shortest has a triple
        for start, one in zip(starts.tolist(), split[first:last], strict=True):
            hashed[start + TRIPLE - 1 : start + TRIPLE - 1 + len(one)] = [known[word] for word in one]
        triples = sum(hashed[i : i + ends[-1]] * _MIX[i] for i in range(TRIPLE))
        triples = np.asarray(triples ^ (triples >> np.uint64(29))) * _MIX[1] >> np.uint64(32)
        # triples that reach into the next text belong to its padding and are left out
        kept = np.ones(ends[-1], bool)
        kept[ends - 1] = kept[ends - 2] = False
        bounds = starts - 2 * np.arange(last - first)
        spread = triples[kept].astype(np.uint32)[:, None] * _FACTORS + _SHIFTS
        signed[first:last] = np.minimum.reduceat(spread, bounds, axis=0)
    return signed


class TextIndex:
    """Signatures under keys; only those of one key are compared."""

    def __init__(self) -> None:
        self._signatures: list[np.ndarray] = []
        self._buckets: dict[Hashable, list[int]] = defaultdict(list)

    def add(self, signature: np.ndarray, key: Hashable = None) -> int:
        """Append a signature; its place."""
        self._signatures.append(signature)
        for bucket in _buckets(signature, key):
            self._buckets[bucket].append(len(self._signatures) - 1)
        return len(self._signatures) - 1

    def matches(self, signature: np.ndarray, threshold: float, key: Hashable = None) -> list[int]:
        """The places of signatures that share at least `threshold`, in the order they were added."""
        places = sorted({place for bucket in _buckets(signature, key) for place in self._buckets.get(bucket, ())})
        return [place for place in places if similarity(signature, self._signatures[place]) >= threshold]


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The estimated share of triples that two texts have in common (Jaccard)."""
    return float((one == other).mean())


def _buckets(signature: np.ndarray, key: Hashable) -> Iterator[Hashable]:
    data, step = signature.tobytes(), 4 * PERMUTATIONS // BANDS
    return ((key, at, data[at : at + step]) for at in range(0, len(data), step))


def _pieces(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches of texts with about `PIECE` words each."""
    first, total = 0, 0
    for place, size in enumerate(sizes):
        total += size + TRIPLE
        if total >= PIECE:
            yield first, place + 1
            first, total = place + 1, 0
    if first < len(sizes):
        yield first, len(sizes)
