"""What a training and an evaluation wrote is scored again, by the command that tries rewards, as it was scored then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_engine.schema import Sample
from eval.records import read_records, read_run, replace_records
from mmrl.grpo.rollouts import write_rollouts
from rewards import Suite, Verdict
from rewards.rollout_files import read_rollouts
from tests.support.gallery import SPECS, evaluation, gallery, training

OPENED = "<think>"  # what the prompt had written of every answer that thinks


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return gallery(tmp_path_factory.mktemp("gallery"))


def again(place: Path) -> list[dict[str, Verdict]]:
    return Suite(SPECS).score([rollout for _, rollout in read_rollouts(place)])


def begun(text: str) -> tuple[str, str]:
    """What the prompt had written of an answer, and the rest."""
    return (OPENED, text.removeprefix(OPENED)) if text.startswith(OPENED) else ("", text)


def test_the_rollouts_of_a_training(samples: list[Sample], tmp_path: Path) -> None:
    file = training(tmp_path / "run", samples) / "rollouts" / "step-00039.parquet"
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row["opened"], row["completion"] = begun(row["completion"])
    write_rollouts(rows, tmp_path / "opened", step=39, group=4)
    for place in (file, tmp_path / "opened"):
        for row, vector in zip(rows, again(place), strict=True):
            for name, verdict in vector.items():
                assert (verdict.score, verdict.kind) == (row[f"score/{name}"], row[f"kind/{name}"])


def test_the_records_of_an_evaluation(samples: list[Sample], tmp_path: Path) -> None:
    out = evaluation(tmp_path / "run", samples, [0, 1, 2, 3])
    info, records = read_run(out), read_records(out)
    parts = [begun(record.response) for record in records]
    changed = [replace(r, opened=head, response=tail) for r, (head, tail) in zip(records, parts, strict=True)]
    replace_records(tmp_path / "opened", changed, info)
    for place in (out, tmp_path / "opened", tmp_path / "opened" / "records.jsonl"):
        for record, vector in zip(records, again(place), strict=True):
            assert {name: vector[name].score for name in record.scores} == record.scores
