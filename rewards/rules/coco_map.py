"""COCO's mean average precision of one image, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def mean_ap(
    pred_N4: Floats,
    pred_labels_N: Ints,
    scores_N: Floats,
    gold_M4: Floats,
    gold_labels_M: Ints,
    threshold: float | None = None,
) -> float:
    """AP over the IoU thresholds .50:.05:.95 (or at one) and the classes of the gold; equal scores keep their order.

    Of each class the first 100 predictions count. A label of a prediction that no gold box has is left out.

    >>> boxes, labels = np.array([[0.0, 0, 10, 10]]), np.array([0])
    >>> mean_ap(boxes, labels, np.zeros(1), boxes, labels)
    1.0
    """
    if not len(pred_N4) or not len(gold_M4):
        return 0.0
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth: Any = COCO()
        found: Any = COCO()
        categories = sorted({*gold_labels_M.tolist()})
        for coco, boxes_K4, labels_K, scores_K in (
            (truth, gold_M4, gold_labels_M, np.ones(len(gold_M4))),
            (found, pred_N4, pred_labels_N, scores_N),
        ):
            coco.dataset = {
                "images": [{"id": 1, "width": 0, "height": 0, "file_name": ""}],
                "categories": [{"id": category} for category in categories],
                "annotations": [
                    {
                        "id": i + 1,
                        "image_id": 1,
                        "category_id": label,
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                        "area": (box[2] - box[0]) * (box[3] - box[1]),
                        "iscrowd": 0,
                        "score": score,
                    }
                    for i, (box, label, score) in enumerate(
                        zip(boxes_K4.tolist(), labels_K.tolist(), scores_K.tolist(), strict=True)
                    )
                ],
            }
            coco.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e20]], ["all"]
        evaluation.params.maxDets = [100]
        if threshold is not None:
            evaluation.params.iouThrs = np.array([threshold])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return round(float(precision[precision > -1].mean()), 12)  # pycocotools divides by counts plus a tiny number
