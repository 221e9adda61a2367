"""Which texts say nearly the same: MinHash signatures of word triples, many texts at a time, and an index of them."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

PERMUTATIONS = 128
BAND = 4  # hashes that two texts must have in common to be compared
SURELY = 0.999  # the chance with which texts that share what is asked for are compared, if so many bands are there
TRIPLE = 3
PIECE = 512  # triples whose hashes are in the cache of the processor at a time
BLANK = ord(" ")
PRIME = 0x100000001B3
SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts in which a character counts as a word
WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")

_FACTORS = np.random.Generator(np.random.PCG64(20)).integers(0, 2**32, PERMUTATIONS, np.uint32) | 1
_ASCII = bytes(ord(chr(i).lower()) if i < 128 and (chr(i).isalnum() or chr(i) == "_") else BLANK for i in range(256))
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
    triples, ends = _triples([_plain(text) for text in texts])
    signed = np.empty((len(texts), PERMUTATIONS), np.uint32)
    starts = np.concatenate([[0], ends[:-1]])
    spread = np.empty((max(PIECE, int((ends - starts).max(initial=0))), PERMUTATIONS), np.uint32)
    first = 0
    while first < len(texts):
        last = max(int(np.searchsorted(ends, starts[first] + PIECE, "right")), first + 1)
        mine = triples[starts[first] : ends[last - 1]]
        np.multiply(mine[:, None], _FACTORS, out=spread[: len(mine)])
        np.minimum.reduceat(spread[: len(mine)], starts[first:last] - starts[first], axis=0, out=signed[first:last])
        first = last
    return signed


def bands_for(share: float) -> int:
    """How many bands of hashes let texts meet that have that share of their triples in common. There are 32: with all
    of them, those that share half meet with 87 %.

    >>> bands_for(0.8), bands_for(0.5)
    (14, 32)
    """
    apart = math.log1p(-(min(share, 0.999) ** BAND))
    return min(math.ceil(math.log(1 - SURELY) / apart), PERMUTATIONS // BAND)


class TextIndex:
    """Signatures under keys; only those of one key are compared, and those that share less than `least` need not be."""

    def __init__(self, least: float = 0.5) -> None:
        self._bands = struct.Struct(f"{4 * BAND}s" * bands_for(least))
        self._signatures: list[np.ndarray] = []
        self._keys: list[Hashable] = []
        self._first: dict[int, int] = {}  # bucket -> the first place in it
        self._more: dict[int, list[int]] = defaultdict(list)  # and the others, where there are some
        self._asked: tuple[np.ndarray | None, Hashable, list[int]] = (None, None, [])

    def add(self, signature: np.ndarray, key: Hashable = None) -> int:
        """Append a signature; its place."""
        place = len(self._signatures)
        self._signatures.append(signature)
        self._keys.append(key)
        for bucket in self._buckets(signature, key):
            if self._first.setdefault(bucket, place) != place:
                self._more[bucket].append(place)
        return place

    def matches(self, signature: np.ndarray, threshold: float, key: Hashable = None) -> list[int]:
        """The places of signatures that share at least `threshold`, in the order they were added."""
        first = self._first
        met = [bucket for bucket in self._buckets(signature, key) if bucket in first]
        if not met:
            return []
        places = {first[bucket] for bucket in met}.union(*(self._more.get(bucket, ()) for bucket in met))
        return [
            place
            for place in sorted(places)
            if self._keys[place] == key and similarity(signature, self._signatures[place]) >= threshold
        ]

    def _buckets(self, signature: np.ndarray, key: Hashable) -> list[int]:
        """A number for each band; that of another band or key may be the same by chance, so candidates are compared.

        Those of the last signature are remembered: what is not found is often added next.
        """
        if self._asked[0] is not signature or self._asked[1] != key:
            salt = hash(key)
            self._asked = signature, key, [salt ^ hash(band) for band in self._bands.unpack_from(signature.data)]
        return self._asked[2]


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The estimated share of triples that two texts have in common (Jaccard)."""
    return float((one == other).mean())


def _plain(text: str) -> bytes:
    """The words of a text with blanks between them."""
    return text.encode().translate(_ASCII) if text.isascii() else " ".join(words(text)).encode()


def _triples(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes of the word triples of all texts, uint32; where those of each text end). A text is padded in front, so
    that the shortest has one."""
    sizes = np.array([len(text) + 1 for text in texts], np.int64)
    data = np.frombuffer(b" ".join([*texts, b""]), np.uint8)
    inside = data != BLANK
    first = np.flatnonzero(inside & ~np.concatenate([[False], inside[:-1]]))  # bytes at which words begin
    hashes = _word_hashes(data, inside, first)
    counts = np.diff(np.searchsorted(first, np.concatenate([[0], np.cumsum(sizes)])))  # words of each text
    padded = np.maximum(counts, 1) + TRIPLE - 1
    ends = np.cumsum(padded)
    laid = np.zeros(int(padded.sum()), np.uint64)
    laid[np.arange(len(hashes)) + np.repeat(ends - np.cumsum(counts) - (counts == 0), counts)] = hashes
    triples = sum(laid[i : len(laid) - TRIPLE + 1 + i] * _MIX[i] for i in range(TRIPLE))
    triples = np.asarray(triples ^ (triples >> np.uint64(29))) * _MIX[1] >> np.uint64(32)
    kept = np.ones(len(laid), bool)  # a triple that reaches into the next text is none
    for back in range(1, TRIPLE):
        kept[ends - back] = False
    return triples[kept[: len(triples)]].astype(np.uint32) | np.uint32(1), ends - (TRIPLE - 1) * np.arange(
        1, len(ends) + 1
    )


def _word_hashes(data: np.ndarray, inside: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum of each word's bytes times powers of a prime, uint64."""
    if not len(first):
        return np.zeros(0, np.uint64)
    spans = np.diff(np.concatenate([first, [len(data)]]))
    place = np.arange(first[0], len(data)) - np.repeat(first, spans)
    powers = np.cumprod(np.full(int(spans.max()), PRIME, np.uint64))
    terms = np.where(inside[first[0] :], data[first[0] :], 0) * powers[place]
    return np.add.reduceat(terms, first - first[0])
