"""How well one set of boxes is another: the modes of `rewards.rules.detection.box_set`.

Shapes: N predictions, M gold objects, both at least 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mmrl.core.vision import box_iou
from rewards.rules import coco_map

Floats = NDArray[np.float64]

NEAR_BOX, NEAR_POINT = 10.0, 30.0  # pixels: VisionReasoner's limits for box sides and points
HALF = 0.5  # the share of training after which Vision-R1's thresholds rise


@dataclass(frozen=True, slots=True)
class Scene:
    """The boxes to compare, in pixels of the original image; labels are numbers, equal where the words are.

    Points are NaN where none is given.
    """

    pred_N4: Floats
    gold_M4: Floats
    pred_labels_N: NDArray[np.int64]
    gold_labels_M: NDArray[np.int64]
    pred_points_N2: Floats
    gold_points_M2: Floats
    progress: float | None = None
    doubt: str = ""  # a note for the verdict


def in_one_order(scene: Scene) -> Scene:
    """The scene with its predictions sorted: where matchings are equally good, none depends on the response's order."""
    order_N = np.lexsort([*scene.pred_points_N2.T, scene.pred_labels_N, *scene.pred_N4.T])
    return replace(
        scene,
        pred_N4=scene.pred_N4[order_N],
        pred_labels_N=scene.pred_labels_N[order_N],
        pred_points_N2=scene.pred_points_N2[order_N],
    )


def vision_r1(scene: Scene, as_released: bool) -> tuple[float, float]:
    """Vision-R1's (recall, precision), 2503.18013: qualities of matched pairs mapped to 0, themselves or 1.

    The stage is the first up to half of the training and the second from there on; with no step known the thresholds
    are the paper's for that. As released the quality is GIoU after matching by pixel distance, label and GIoU, and
    precision is the mean over matched pairs; else it is the IoU of same labels, over all predictions.
    """
    if as_released:
        quality_NM = box_iou(scene.pred_N4, scene.gold_M4, kind="giou")
        distance_NM = np.abs(scene.pred_N4[:, None] - scene.gold_M4).sum(axis=-1)
        rows, columns = linear_sum_assignment(distance_NM - _same_label(scene) - quality_NM)
        quality = quality_NM[rows, columns]
    else:
        quality = matched(_same_label_iou(scene))
    hit, low, high = {None: (0.5, 0.0, 1.0), 1: (0.5, 0.5, 0.75), 2: (0.75, 0.75, 0.9)}[_stage(scene.progress)]
    recall = float(_stepped(quality, hit, hit).sum() / len(scene.gold_M4))
    recall = recall if scene.progress is None else float(_stepped(recall, 0.5, 0.75))
    precision = float(_stepped(quality, low, high).sum() / (len(quality) if as_released else len(scene.pred_N4)))
    return recall, precision


def matched(values_NM: Floats) -> Floats:
    """The values of the pairs of the best one-to-one matching."""
    return values_NM[linear_sum_assignment(values_NM, maximize=True)]


def _same_label(scene: Scene) -> NDArray[np.bool_]:
    return scene.pred_labels_N[:, None] == scene.gold_labels_M


def _same_label_iou(scene: Scene) -> Floats:
    return box_iou(scene.pred_N4, scene.gold_M4) * _same_label(scene)


def _overlap_sum(scene: Scene, threshold: float | None) -> float:
    values_NM = _same_label_iou(scene)
    if threshold is not None:
        values_NM = (values_NM >= threshold) & _same_label(scene)
    return float(matched(values_NM.astype(np.float64)).sum())


def _f1(scene: Scene, threshold: float | None, as_released: bool) -> float:
    return 2 * _overlap_sum(scene, threshold) / (len(scene.pred_N4) + len(scene.gold_M4))


def _precision(scene: Scene, threshold: float | None, as_released: bool) -> float:
    return _overlap_sum(scene, threshold) / len(scene.pred_N4)


def _recall(scene: Scene, threshold: float | None, as_released: bool) -> float:
    wanted = len(scene.gold_M4) if as_released else max(len(scene.pred_N4), len(scene.gold_M4))
    return _overlap_sum(scene, threshold) / wanted


def _map(scene: Scene, threshold: float | None, as_released: bool) -> float:
    known_N = np.isin(scene.pred_labels_N, scene.gold_labels_M)
    pred_N4, rank_N = scene.pred_N4, np.zeros(len(scene.pred_N4))
    if not as_released:  # unmatched boxes first, then the matched from worst to best
        values_NM = _same_label_iou(scene)
        rows, columns = linear_sum_assignment(values_NM, maximize=True)
        rank_N[rows] = -values_NM[rows, columns]
        pred_N4 = np.where(rank_N[:, None] < 0, pred_N4, 0.0)  # or a second box for one object would be its hit
    value = coco_map.mean_ap(
        pred_N4[known_N],
        scene.pred_labels_N[known_N],
        rank_N[known_N],
        scene.gold_M4,
        scene.gold_labels_M,
        threshold,
    )
    return value if as_released else value * float(known_N.mean())


def _od_length(scene: Scene, threshold: float | None, as_released: bool) -> float:
    return _map(scene, threshold, True) * min(1.0, len(scene.gold_M4) / len(scene.pred_N4))


def _weighted(scene: Scene, threshold: float | None, as_released: bool) -> float:
    """VLM-R1's detection_score: pairs by falling IoU whatever the label, then 0.7 position + 0.3 completeness."""
    least = 0.5 if threshold is None else threshold
    iou_NM = box_iou(scene.pred_N4, scene.gold_M4)
    n, m = iou_NM.shape
    pairs, position = 0, 0.0
    free_NM = np.where(iou_NM > 0, iou_NM, -1.0)
    while (best := free_NM.max()) >= least and best > 0:
        i, j = np.unravel_index(free_NM.argmax(), free_NM.shape)
        pairs += 1
        position += best * _same_label(scene)[i, j]
        free_NM[i, :] = free_NM[:, j] = -1.0
    completeness = 1 - ((m - pairs) / m + (n - pairs) / n) / 2
    return 0.7 * position / m + 0.3 * completeness


def _vision_r1(scene: Scene, threshold: float | None, as_released: bool) -> float:
    return sum(vision_r1(scene, as_released)) / 2


def _visionreasoner(scene: Scene, threshold: float | None, as_released: bool) -> float:
    """Points of all pairs over the most possible, matched for the largest sum; the code's boxes are 1 px larger."""
    grown = np.array([0.0, 0.0, 1.0, 1.0]) * as_released
    least = 0.5 if threshold is None else threshold
    overlap_NM = box_iou(scene.pred_N4 + grown, scene.gold_M4 + grown) > least
    near_NM = np.abs(scene.pred_N4[:, None] - scene.gold_M4).mean(axis=-1) < NEAR_BOX
    distance_NM = np.linalg.norm(scene.pred_points_N2[:, None] - scene.gold_points_M2, axis=-1)
    inside_N1 = inside(scene.pred_points_N2, scene.pred_N4)[:, None]
    pointed_NM = (distance_NM < NEAR_POINT) & inside_N1
    points_NM = (overlap_NM.astype(np.float64) + near_NM + pointed_NM) * _same_label(scene)
    most = 2 if np.isnan(scene.gold_points_M2).all() else 3
    return float(matched(points_NM).sum()) / (most * max(points_NM.shape))


def inside(points_2: Floats, boxes_4: Floats) -> NDArray[np.bool_]:
    """Which points [..., 2] are in which boxes [..., 4]."""
    return np.asarray(((points_2 >= boxes_4[..., :2]) & (points_2 <= boxes_4[..., 2:])).all(axis=-1))


def _stage(share: float | None) -> int | None:
    return None if share is None else 1 if share < HALF else 2


def _stepped(values: Any, low: float, high: float) -> Any:
    """0 below `low`, 1 above `high`, else the value itself."""
    return np.where(values < low, 0.0, np.where(values > high, 1.0, values))


MODES: dict[str, Callable[[Scene, float | None, bool], float]] = {
    "f1": _f1,
    "recall": _recall,
    "precision": _precision,
    "map": _map,
    "od_length": _od_length,
    "weighted": _weighted,
    "vision_r1": _vision_r1,
    "visionreasoner": _visionreasoner,
}
