"""Which samples a run answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, with_id
from eval.sample_sets import DatasetSplit, selected, split_samples


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, mixed_samples: list[Sample]) -> Path:
    """Three different questions about the media of each of the mixed samples."""
    out = tmp_path_factory.mktemp("data") / "mixed"
    asked = [with_id(replace(s, meta={"split": "test"}, source=f"q{i}")) for s in mixed_samples for i in range(3)]
    write_dataset(asked, out)
    return out


def test_the_selection_does_not_depend_on_the_order_of_rows(dataset: Path) -> None:
    everything = split_samples(DatasetSplit(path=str(dataset))).load()
    few = selected(everything[::-1], 2)
    assert few == selected(everything, 2)
    assert {sample.task: 2 for sample in everything} == {
        t: sum(s.task == t for s in few) for t in {s.task for s in few}
    }
    assert {sample.id for sample in selected(everything, 1)} < {sample.id for sample in few}


def test_a_sample_given_twice_is_evaluated_once(mixed_samples: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    assert len(selected([*mixed_samples, *mixed_samples[:2]], None)) == len(mixed_samples)
    assert "2 samples repeat the id" in caplog.text
