"""Entropic partial optimal transport between the tokens of a text and the patches of a picture (PISCES, 2602.01624).

Shapes: N tokens, M patches, K coordinates of a place.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
FORBIDDEN = 1e3  # the cost between two dummies: no mass goes there


def plan(cost_NM: ArrayLike, *, mass: float = 0.9, smoothing: float = 0.1) -> Array:
    """[N, M]: the plan of least cost that moves the share `mass` between uniform weights, with an entropy of weight
    `smoothing`.

    A dummy token and a dummy patch take the rest at no cost, the usual reduction to the balanced problem; their entropy
    counts, too. At a `mass` of 1 there are none.
    """
    import ot

    balanced: Any = functools.partial(ot.sinkhorn, reg=smoothing, method="sinkhorn_log")
    cost = np.asarray(cost_NM, dtype=np.float64)
    tokens, patches = (np.full(count, 1 / count) for count in cost.shape)
    if mass == 1:
        return balanced(tokens, patches, cost)
    with_dummies = np.pad(cost, (0, 1))
    with_dummies[-1, -1] = FORBIDDEN
    weights = np.append(tokens, 1 - mass), np.append(patches, 1 - mass)
    return balanced(*weights, with_dummies)[:-1, :-1]


def expected(attention_NM: ArrayLike, places_MK: ArrayLike) -> Array:
    """[N, K]: where each token looks, the mean of the patches' places by its attention.

    >>> expected([[0.5, 0.3, 0.2]], [[0], [1], [2]]).round(4).tolist()
    [[0.7]]
    """
    return np.asarray(attention_NM, dtype=np.float64) @ np.asarray(places_MK, dtype=np.float64)


def costs(cosine_NM: ArrayLike, attention_NM: ArrayLike, places_M2: ArrayLike, *, place: float = 0.2) -> Array:
    """[N, M]: 1 - cosine + `place` times the distance between a patch and where the token looks.

    >>> costs([[1.0, 0.0]], [[0.5, 0.5]], [[0.0, 0.0], [1.0, 0.0]]).round(4).tolist()
    [[0.1, 1.1]]
    """
    looks_N2 = expected(attention_NM, places_M2)
    far_NM = np.linalg.norm(looks_N2[:, None] - np.asarray(places_M2, dtype=np.float64)[None], axis=-1)
    return 1 - np.asarray(cosine_NM, dtype=np.float64) + place * far_NM
