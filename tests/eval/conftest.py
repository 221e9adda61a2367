"""Datasets of the mixed samples, for the tests of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, with_id


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, mixed_samples: list[Sample]) -> Path:
    out = tmp_path_factory.mktemp("data") / "mixed"
    write_dataset([with_id(replace(sample, meta={"split": "test"})) for sample in mixed_samples], out)
    return out


@pytest.fixture(scope="module")
def tripled(tmp_path_factory: pytest.TempPathFactory, mixed_samples: list[Sample]) -> Path:
    """Three different questions about the media of each of the mixed samples."""
    out = tmp_path_factory.mktemp("data") / "mixed"
    asked = [with_id(replace(s, meta={"split": "test"}, source=f"q{i}")) for s in mixed_samples for i in range(3)]
    write_dataset(asked, out)
    return out
