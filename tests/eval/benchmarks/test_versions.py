"""A benchmark whose prompt or rules read answers otherwise has another version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.benchmarks import BENCHMARKS
from tests.support.benchmarks.answers import FIXTURES
from tests.support.benchmarks.readings import NOTED, reading_of

READINGS = json.loads(NOTED.read_text())


@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_a_benchmark_reads_answers_as_its_version_did(name: str, tmp_path: Path) -> None:
    write = "run `python -m tests.support.benchmarks.readings`"
    assert name in READINGS, f"{name} is not noted: {write}"
    version, reading = READINGS[name]
    assert version == BENCHMARKS[name].version, f"{name} has a new version: {write}"
    assert reading == reading_of(name, tmp_path), f"{name} asks or reads otherwise: raise its version, and {write}"
