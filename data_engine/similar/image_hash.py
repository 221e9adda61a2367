"""Fingerprints of pictures and videos, which survive re-encoding, scaling, loss of colour and a small crop.

A picture has two hashes. The first (pHash) is the sign of its lowest 8x8 DCT coefficients against their median, over
32x32 grey cells. The second marks where a 16x16 grid gets clearly brighter to the right and downwards: its edges. Two
pictures are the same if few bits of the first hash differ and most edges are common; the more bits differ, the more
edges must be common. Charts and drawings are mostly background, so that different ones have much in common. A picture
of which a third is one tone is therefore *flat*, and two flat pictures must agree nearly to the bit. The frames of a
video count together. We keep our own hash: it is 4.5 times as fast as imagededup's, and its edges find crops and logos.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmrl.core.media.image import load_grey, load_image
from mmrl.core.media.item import Media
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget

FRAMES = 4  # per video, spread over the part that is shown
EDGE = 2.5  # grey levels between neighbouring cells; smaller steps are noise of the encoder
FLAT = 0.3  # share of cells of one tone from which a picture is flat
WORDS = 8  # 64-bit words of the second hash
FEW = 24  # edges of two media together, below which a share of them means little
NONE = 2  # edges up to which a picture is plain: all plain pictures have the same hashes


class HashLimits(NamedTuple):
    """How much hashes of the same picture may differ: bits of the first (of 64), the share of edges of the second."""

    phash: int
    edges: float


ORDINARY = (HashLimits(12, 0.6), HashLimits(20, 0.5), HashLimits(24, 0.3))  # cropped; with an overlay
MOVING = (HashLimits(12, 0.6), HashLimits(24, 0.3))  # of videos: two films of one place differ by what moves there
STRICT = HashLimits(4, 0.1)  # of flat media
BARE = HashLimits(4, 8)  # of media with few edges: here the second limit is a number of edges


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hashes of the frames of a media item; an image is one frame."""

    phash: np.ndarray  # uint64 [F]
    edges: np.ndarray  # uint64 [F, WORDS]
    flat: np.ndarray  # bool [F]

    @property
    def is_plain(self) -> bool:
        """Whether it has too few edges to be distinguished from other pictures."""
        return bool(np.bitwise_count(self.edges).sum() <= NONE)


def pixel_hash(media: Media) -> str:
    """A hash of the decoded pixels: of an image, or of `FRAMES` frames of a video. The file format does not matter."""
    pictures = [np.asarray(load_image(media))] if media.kind == "image" else _frames(media)
    shapes = [picture.shape for picture in pictures]
    return hashlib.sha256(b"".join([repr(shapes).encode(), *(picture.tobytes() for picture in pictures)])).hexdigest()


def fingerprint(media: Media) -> Fingerprint:
    """The fingerprint of an image, or of the shown part of a video."""
    if media.kind == "image":
        return of_pictures([load_grey(media)])
    return of_pictures([Image.fromarray(frame).convert("L") for frame in _frames(media)])


def of_pictures(pictures: Sequence[Image.Image]) -> Fingerprint:
    """The fingerprint of grey pictures."""
    small = (picture.resize((32, 32), Image.Resampling.BOX) for picture in pictures)
    cells = np.stack([np.asarray(picture, np.float32) for picture in small])  # [F, 32, 32]
    basis = _basis()
    waves = (basis @ cells @ basis.T).reshape(len(cells), 64)
    median = np.partition(waves[:, 1:], 31, axis=1)[:, 31:32]  # of 63; np.median takes several times as long
    phash = _packed(waves > median)[:, 0]
    grid = cells.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4))
    steps = np.concatenate(
        [np.diff(grid, axis=2).reshape(len(grid), -1), np.diff(grid, axis=1).reshape(len(grid), -1)], axis=1
    )
    return Fingerprint(phash, _packed(steps > EDGE), np.array([_common_tone(frame) >= FLAT for frame in cells]))


class MediaIndex:
    """Fingerprints with the same number of frames, in the order they were added.

    A look-up compares with all of them at once, about 20 ns each.
    """

    def __init__(self, frames: int) -> None:
        self._count, self._frames = 0, frames
        self._limits = ORDINARY if frames == 1 else MOVING
        self._phash = np.zeros((frames, 64), np.uint64)  # frame by frame: sums over frames are fast
        self._edges = np.zeros((64, frames, WORDS), np.uint64)
        self._flat = np.zeros((64, frames), bool)

    def __len__(self) -> int:
        return self._count

    def add(self, hashes: Fingerprint) -> int:
        """Append a fingerprint; returns its place."""
        if self._count == len(self._edges):
            self._phash = np.concatenate([self._phash, np.zeros_like(self._phash)], axis=1)
            self._edges, self._flat = (
                np.concatenate([array, np.zeros_like(array)]) for array in (self._edges, self._flat)
            )
        self._phash[:, self._count] = hashes.phash
        self._edges[self._count], self._flat[self._count] = hashes.edges, hashes.flat
        self._count += 1
        return self._count - 1

    def matches(self, hashes: Fingerprint) -> list[int]:
        """The places of the fingerprints of the same media, nearest first, then in the order they were added."""
        bits = np.bitwise_count(self._phash[:, : self._count] ^ hashes.phash[:, None])
        near = bits.sum(axis=0, dtype=np.uint16)  # over all frames
        places = np.flatnonzero(near <= ORDINARY[-1].phash * self._frames)
        near = near[places] / self._frames
        apart = np.bitwise_count(self._edges[places] ^ hashes.edges).sum(axis=(1, 2))
        edges = np.bitwise_count(self._edges[places] | hashes.edges).sum(axis=(1, 2))
        share = apart / np.maximum(edges, 1)
        ordinary = np.logical_or.reduce([(near <= most.phash) & (share <= most.edges) for most in self._limits])
        strict = (near <= STRICT.phash) & (share <= STRICT.edges)
        bare = (near <= BARE.phash) & (apart <= BARE.edges)
        flat = (self._flat[places] & hashes.flat).all(axis=1)
        same = np.where(flat, strict, np.where(edges < FEW, bare, ordinary)) & (edges > NONE)
        distance = dict(zip(places.tolist(), apart.tolist(), strict=True))
        return sorted(places[same].tolist(), key=distance.__getitem__)


def _frames(media: Media) -> list[np.ndarray]:
    """Frames spread over the shown part of a video."""
    budget = VisionBudget(min_pixels=4096, max_pixels=65536, fps=2.0, min_frames=FRAMES, max_frames=FRAMES)
    frames = load_video(media, budget).frames
    return [frames[place] for place in np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]


def _common_tone(cells: np.ndarray) -> float:
    """The share of cells that have the commonest grey level."""
    return float(np.bincount(cells.round().astype(int).ravel()).max() / cells.size)


@functools.cache
def _basis() -> np.ndarray:
    """The eight lowest rows of the 32-point DCT-II."""
    k, n = np.ogrid[:8, :32]
    return np.cos(np.pi * k * (2 * n + 1) / 64).astype(np.float32)


def _packed(bits: np.ndarray) -> np.ndarray:
    """Rows of bits as rows of 64-bit words."""
    rows, width = bits.shape
    padded = np.zeros((rows, -(-width // 64) * 64), bool)
    padded[:, :width] = bits
    return np.packbits(padded, axis=1).view(np.uint64)
