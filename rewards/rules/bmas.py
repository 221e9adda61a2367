"""BMAS: two texts compared by the embeddings of their tokens, from the table of a checkpoint, without its model.

Shapes: V tokens of the vocabulary, D dimensions, M tokens of the prediction, N tokens of the reference.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.parse.strings import texts_of

Floats = NDArray[np.float32]

EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "embeddings.weight", "shared.weight")
AT_ONCE = 4_000_000  # similarities held at once
_KINDS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


def _readable(table: str) -> str:
    """The name of a table that can be read; InputError now, before the first rollout, if it cannot."""
    embeddings_of(table)
    return table


def bmas(
    rollouts: Sequence[Rollout],
    *,
    table: Annotated[str, AfterValidator(_readable)],
    center: bool = False,
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> list[Verdict]:
    """Bidirectional max-average similarity of the answer to the best gold text (Mixed-R1, 2505.24164).

    With unit token embeddings P and G and S = P G^T: (mean_i max_j S_ij + mean_j max_i S_ij) / 2, at least 0. The paper
    gives the name alone; the formula is our reading of it. Gold: `text` or `references`. `table` is the directory of a
    checkpoint with its tokenizer.json, or a safetensors file next to one; only the rows that are needed are read.
    `center=True` first subtracts the mean of the table; `floor` is the score of unrelated texts (`floor_of` measures
    it), which becomes 0.

    >>> round(similarity(np.array([[1, 0], [0, 1], [0.6, 0.8]]), np.array([[1, 0], [0.6, 0.8]])), 7)
    0.9666667
    """
    embeddings = embeddings_of(table)
    golds_of = functools.lru_cache(maxsize=8)(lambda text: embeddings.of(text, center))  # a group shares its gold texts
    return [_scored(rollout, embeddings, golds_of, center, floor) for rollout in rollouts]


def similarity(
    prediction_MD: NDArray[Any],
    reference_ND: NDArray[Any],
    counts_M: NDArray[Any] | None = None,
    counts_N: NDArray[Any] | None = None,
) -> float:
    """BMAS of two texts from the embeddings of their tokens, in [-1, 1]; a zero row is similar to nothing.

    With counts each row stands for as many equal tokens.

    >>> similarity(np.array([[1.0, 0]]), np.array([[-1.0, 0]])), similarity(np.zeros((0, 2)), np.ones((1, 2)))
    (-1.0, 0.0)
    """
    if not len(prediction_MD) or not len(reference_ND):
        return 0.0
    left_MD, right_ND = _unit(prediction_MD), _unit(reference_ND)
    rows = max(AT_ONCE // len(right_ND), 1)
    forward_M = np.empty(len(left_MD), dtype=np.float64)
    backward_N = np.full(len(right_ND), -np.inf, dtype=np.float64)
    for start in range(0, len(left_MD), rows):
        part_RN = left_MD[start : start + rows] @ right_ND.T
        forward_M[start : start + rows] = part_RN.max(axis=1)
        backward_N = np.maximum(backward_N, part_RN.max(axis=0))
    return float(np.average(forward_M, weights=counts_M) + np.average(backward_N, weights=counts_N)) / 2


def floor_of(table: str, texts: Sequence[str], *, center: bool = False) -> float:
    """The mean BMAS of each text with the next one: the score of unrelated texts, for the option `floor`."""
    embeddings = embeddings_of(table)
    rows = [embeddings.of(text, center) for text in texts]
    pairs = zip(rows, [*rows[1:], *rows[:1]], strict=True)
    return float(np.mean([similarity(a, b, some, others) for (a, some), (b, others) in pairs]))


@dataclass(frozen=True)
class Embeddings:
    """A memory-mapped table [V, D] and the tokenizer that gives its row numbers; bfloat16 is kept as its bits."""

    table_VD: NDArray[Any]
    tokenizer: Any

    def of(self, text: str, center: bool = False) -> tuple[Floats, NDArray[np.int64]]:
        """The embeddings of the different tokens of a text, without special tokens, and how often each occurs."""
        readable = text.encode(errors="replace").decode()  # tokenizers refuse half a surrogate pair
        ids = np.array(self.tokenizer.encode(readable, add_special_tokens=False).ids, dtype=np.int64)
        ids_M, counts_M = np.unique(ids[ids < len(self.table_VD)], return_counts=True)
        rows_MD = _floats(self.table_VD[ids_M])
        return (rows_MD - self.mean_row if center else rows_MD), counts_M

    @functools.cached_property
    def mean_row(self) -> Floats:
        """The mean row, from one pass over the table."""
        total_D = np.zeros(self.table_VD.shape[1])
        rows = max(AT_ONCE // self.table_VD.shape[1], 1)
        for start in range(0, len(self.table_VD), rows):
            total_D += _floats(self.table_VD[start : start + rows]).sum(axis=0, dtype=np.float64)
        return (total_D / len(self.table_VD)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def embeddings_of(table: str) -> Embeddings:
    """The embeddings of a checkpoint directory, or of a safetensors file with its tokenizer next to it."""
    path = Path(table)
    directory = path if path.is_dir() else path.parent
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    if not (directory / "tokenizer.json").is_file():
        raise InputError(f"table {table}: no tokenizer.json in {directory}")
    for file in files:
        if (found := _mapped(file)) is not None:
            from tokenizers import Tokenizer

            return Embeddings(found, Tokenizer.from_file(str(directory / "tokenizer.json")))
    raise InputError(f"table {table}: no safetensors file with a tensor that ends with one of {', '.join(EMBEDDINGS)}")


def _scored(
    rollout: Rollout,
    embeddings: Embeddings,
    golds_of: Callable[[str], tuple[Floats, NDArray[np.int64]]],
    center: bool,
    floor: float,
) -> Verdict:
    texts = texts_of(rollout)
    if isinstance(texts, Verdict):
        return texts
    said_MD, counts_M = embeddings.of(texts[0], center)
    golds = [(rows_ND, counts_N) for rows_ND, counts_N in map(golds_of, texts[1]) if len(rows_ND)]
    if not golds:
        return abstain("the gold texts have no tokens")
    if not len(said_MD):
        return unparsed("no tokens")
    best = max(similarity(said_MD, gold_ND, counts_M, counts_N) for gold_ND, counts_N in golds)
    return Verdict(min(max((best - floor) / (1 - floor), 0.0), 1.0), f"bmas {best:.3f}")


def _mapped(file: Path) -> NDArray[Any] | None:
    """The embedding matrix in a safetensors file, mapped, not read; None if there is none."""
    with file.open("rb") as stream:
        head = stream.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < size <= min(_MAX_HEADER, file.stat().st_size):
            raise InputError(f"{file} is not a safetensors file")
        try:
            header = json.loads(stream.read(size))
        except ValueError as error:
            raise InputError(f"{file} is not a safetensors file: {error}") from None
    for name in sorted(header, key=len):
        entry = header[name]
        if not name.endswith(EMBEDDINGS) or not isinstance(entry, Mapping) or len(entry["shape"]) != 2:
            continue
        if entry["dtype"] not in _KINDS:
            raise InputError(f"{file}: {name} is {entry['dtype']}; known: {', '.join(_KINDS)}")
        kind, (first, last) = _KINDS[entry["dtype"]], entry["data_offsets"]
        if last - first != math.prod(entry["shape"]) * kind.itemsize or 8 + size + last > file.stat().st_size:
            raise InputError(f"{file}: {name} is cut off")
        return np.memmap(file, kind, "r", offset=8 + size + first, shape=tuple(entry["shape"]))
    return None


def _floats(rows: NDArray[Any]) -> Floats:
    """Rows as float32; unsigned integers are the bits of bfloat16."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows, dtype=np.float32)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
