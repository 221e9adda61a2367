"""Probes of a reward head: which dimensions of an answer can be read from the states that it scores (MRMBench).

Shapes: B answers, D coordinates of a state, C classes of a dimension, N centroids.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from eval.metrics import mean_estimate
from eval.preferences.labelled import LabelledAnswer, labelled_answers
from mmrl.core.config import InputError
from rewards import Verdict

States = NDArray[np.float64]
Classes = NDArray[np.int64]

DECAY = 1e-3  # of a probe's weights, for states of mean square 1
SURE = 0.95  # of the answers that probes learn from: those nearest to the centroids
CURVE = np.linspace(0, 0.9, 19)  # shares of held-out answers to leave out


def head_probes(
    head: str,
    data: Path,
    *,
    centroids: int = 1,
    tau: float | None = None,
    batch: int = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> dict[str, Any]:
    """What `mmrl eval probes` writes: `probed` on the states of the head in the directory `head` for `data`."""
    from rewards.heads.embeddings_torch import last_states

    answers = labelled_answers(data)
    states = last_states([one.rollout for one in answers], model=head, batch=batch, device=device, dtype=dtype)
    read = [(one, state) for one, state in zip(answers, states, strict=True) if not isinstance(state, Verdict)]
    if not read:
        raise InputError(f"{head} can read none of the {len(answers)} answers in {data}: {states[0].why}")
    found = probed([one for one, _ in read], np.stack([state for _, state in read]), centroids=centroids, tau=tau)
    return {"head": head, "data": str(data), "unread": len(answers) - len(read), **found}


def probed(
    answers: Sequence[LabelledAnswer], states_BD: States, *, centroids: int = 1, tau: float | None = None
) -> dict[str, Any]:
    """Probes and centroids of every dimension, learned from some answers and tested on those held out (2511.12464).

    A probe is a linear layer without bias on frozen states. An answer is sure if it is at most `tau` from the nearest
    centroid of any dimension; by default `tau` is such that 95 % of the answers learned from are. The paper has its
    probes learn for one epoch; here they are fitted to the end.
    """
    names = list(dict.fromkeys(name for one in answers for name in one.classes))
    held_B = np.array([one.held_out for one in answers])
    places = {name: _centroids(name, answers, states_BD, held_B, centroids) for name in names}
    apart = {name: cdist(states_BD, np.concatenate([*of.values()])).min(axis=1) for name, of in places.items()}
    nearest_B = np.min([*apart.values()], axis=0)
    limit = float(np.quantile(nearest_B[~held_B], SURE)) if tau is None else tau
    rows, tested = [], []
    for name in names:
        has_B = np.array([name in one.classes for one in answers])
        at = np.flatnonzero(has_B & held_B)
        right = _right(name, answers, states_BD, np.flatnonzero(has_B & ~held_B), at)
        tested += [*zip(nearest_B[at], right, strict=True)]
        sure = nearest_B[at] <= limit
        clusters = [answers[int(place)].cluster for place in at]
        rows.append(
            {
                "dimension": name,
                "classes": len(places[name]),
                "learned": int((has_B & ~held_B).sum()),
                **asdict(mean_estimate(right.tolist(), clusters)),
                "most_frequent": _most_frequent(name, answers, at),
                "sure": float(right[sure].mean()) if sure.any() else None,
                "left_out": float(1 - sure.mean()),
                "distance": float(apart[name][at].mean()),
            }
        )
    return {
        "average": float(np.mean([row["mean"] for row in rows])),
        "tau": limit,
        "left_out": float((nearest_B[held_B] > limit).mean()),
        "dimensions": rows,
        "curve": _curve(tested),
        "centroids": [
            {"dimension": name, "class": number, "states": place.tolist()}
            for name, of in places.items()
            for number, place in of.items()
        ],
    }


def probe(states_BD: States, classes_B: Classes, count: int) -> States:
    """[C, D]: the weights, without bias, of least cross-entropy plus `DECAY` / 2 times their square.

    >>> probe(np.eye(2), np.array([1, 0]), 2).argmax(axis=0).tolist()
    [1, 0]
    """
    gold_BC = np.eye(count)[classes_B]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights_CD = weights.reshape(count, -1)
        logs_BC = log_softmax(states_BD @ weights_CD.T, axis=1)
        gradient_CD = (np.exp(logs_BC) - gold_BC).T @ states_BD / len(states_BD) + DECAY * weights_CD
        value = -(gold_BC * logs_BC).sum() / len(states_BD) + DECAY / 2 * (weights**2).sum()
        return float(value), gradient_CD.ravel()

    return minimize(loss, np.zeros(count * states_BD.shape[1]), jac=True, method="L-BFGS-B").x.reshape(count, -1)


def _centroids(
    name: str, answers: Sequence[LabelledAnswer], states_BD: States, held_B: NDArray[np.bool_], count: int
) -> dict[int, States]:
    """By class: up to `count` centroids [N, D] of the answers of this class that probes learn from (k-means)."""
    learned = [(place, one.classes[name]) for place, one in enumerate(answers) if name in one.classes]
    learned = [(place, label) for place, label in learned if not held_B[place]]
    labels = sorted({label for _, label in learned})
    if len(labels) < 2:
        raise InputError(
            f"dimension {name}: the answers to learn from are of {len(labels)} class{'es' * (not labels)}, wanted at "
            "least two; those whose meta.split is test are held out"
        )
    if not any(name in one.classes for one, held in zip(answers, held_B, strict=True) if held):
        raise InputError(f"dimension {name}: no answer is held out; give some the meta.split test, or more questions")
    of_class = {label: states_BD[[place for place, other in learned if other == label]] for label in labels}
    drawn: Any = functools.partial(kmeans, rng=0)
    return {label: drawn(own, min(count, len(own)))[0] for label, own in of_class.items()}


def _right(
    name: str, answers: Sequence[LabelledAnswer], states_BD: States, learned: Classes, tested: Classes
) -> NDArray[np.float64]:
    """[B]: 1 for each answer at `tested` whose class the probe of this dimension names, else 0."""
    labels = sorted({answers[place].classes[name] for place in learned})
    scale = float(np.sqrt((states_BD[learned] ** 2).mean())) or 1.0
    classes_B = np.array([labels.index(answers[place].classes[name]) for place in learned])
    weights_CD = probe(states_BD[learned] / scale, classes_B, len(labels))
    named_B = np.array(labels)[(states_BD[tested] @ weights_CD.T).argmax(axis=1)]
    return (named_B == [answers[place].classes[name] for place in tested]).astype(float)


def _most_frequent(name: str, answers: Sequence[LabelledAnswer], tested: Classes) -> float:
    """The share of the most frequent class of the answers at `tested`."""
    _, counts = np.unique([answers[place].classes[name] for place in tested], return_counts=True)
    return float(counts.max() / counts.sum())


def _curve(tested: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    """The accuracy of the answers that stay when those furthest from all centroids are left out, by their share."""
    right = [hit for _, hit in sorted(tested, key=itemgetter(0))]
    kept = [max(round(len(right) * (1 - share)), 1) for share in CURVE]
    return [
        {"left_out": float(share), "accuracy": float(np.mean(right[:count]))}
        for share, count in zip(CURVE, kept, strict=True)
    ]
