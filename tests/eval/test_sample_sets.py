"""Which samples a run answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_engine.schema import Sample
from eval.sample_sets import DatasetSplit, selected, split_samples


def test_the_selection_does_not_depend_on_the_order_of_rows(tripled: Path) -> None:
    everything = split_samples(DatasetSplit(path=str(tripled))).load()
    few = selected(everything[::-1], 2)
    assert few == selected(everything, 2)
    assert {sample.task: 2 for sample in everything} == {
        t: sum(s.task == t for s in few) for t in {s.task for s in few}
    }
    assert {sample.id for sample in selected(everything, 1)} < {sample.id for sample in few}


def test_a_sample_given_twice_is_evaluated_once(mixed_samples: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    assert len(selected([*mixed_samples, *mixed_samples[:2]], None)) == len(mixed_samples)
    assert "2 samples repeat the id" in caplog.text
