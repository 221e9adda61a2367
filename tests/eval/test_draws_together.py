"""The draws of a sample are scored together, also where batches divide them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.config import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import validate
from tests.support.training import REWARDS, VISION, material


def test_a_rank_among_the_draws_does_not_depend_on_the_batches(tmp_path: Path) -> None:
    world = material(tmp_path / "world", "tit")
    values: dict[str, Any] = {
        "model": str(world / "model"),
        "data": {"path": str(world / "data"), "split": "train"},
        "rewards": {"rank": {"fn": "group_rank", "args": {"reward": REWARDS["letters"]}}},
        "vision": VISION,
        "sampling": {"do_sample": True, "samples": 3, "max_new_tokens": 12},
    }
    found = []
    for size in (1, 2, 16):
        changes = {"batch_size": size, "out": str(tmp_path / f"run{size}")}
        records = evaluate(validate(EvalConfig, {**values, **changes}, where="test"))
        found.append({(record.item_id, record.draw): record.scores["rank"] for record in records})
    assert len(found[0]) == 9
    assert None not in found[0].values()
    assert len(set(found[0].values())) > 1
    assert found[0] == found[1] == found[2]
