"""A verifier as the policy: its answers, its training data, and how often it agrees with people."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_engine.dataset.pairs import pair_places
from eval.records import Record, RecordWriter
from mmrl.core.config import InputError
from mmrl.verifier.__main__ import main
from mmrl.verifier.accuracy import gained, pair_accuracy, pair_verdicts
from mmrl.verifier.pairs import HELD_OUT, INSTRUCTIONS, checked_edits, preferred_edits
from rewards import Rollout, get
from rewards.tasks.golds import chain
from tests.support.faulty import form_fault

POINTS = '[{"question":"done","score":1},{"question":"kept","score":0}]'
GOLD = {"principles": [{"question": "done"}, {"question": "kept"}]}


@pytest.mark.parametrize(
    ("completion", "score", "kind"),
    [
        (f"{POINTS}<score>4</score>", 0.4, "scored"),
        (f"{POINTS}<score>4</score><score>7.5</score>", 0.75, "scored"),
        (f"{POINTS}<score>11</score>", 0.0, "unparsed"),
        (POINTS, 0.0, "unparsed"),
        ("<score>4</score>", 0.0, "unparsed"),
        ('[{"question":"done","score":1}]<score>4</score>', 0.0, "unparsed"),
        ("", 0.0, "unparsed"),
    ],
)
def test_a_chain_is_read_strictly(completion: str, score: float, kind: str) -> None:
    verdict = get("verifier_score")([Rollout(completion, GOLD)])[0]
    assert (verdict.score, verdict.kind) == (score, kind)


def test_what_sft_teaches_is_what_the_reward_reads() -> None:
    for sample in checked_edits(n=20):
        verdict = get("verifier_score")([Rollout(chain(sample.answer), sample.answer)])[0]
        assert (verdict.score, verdict.kind) == (sample.answer["score"] / 10, "scored")


def pictures(sample: Any) -> tuple[np.ndarray, np.ndarray]:
    source, edited = (np.asarray(Image.open(io.BytesIO(media.bytes))) for media in sample.media)
    return source, edited


def test_pairs_are_one_photograph_edited_right_and_otherwise() -> None:
    samples = list(preferred_edits(n=12))
    pair_places([str(i) for i in range(24)], [sample.meta for sample in samples])
    for first, two in zip(samples[::2], samples[1::2], strict=True):
        assert first.meta["pair"] == two.meta["pair"]
        (source, edited), (other, otherwise) = pictures(first), pictures(two)
        assert (source == other).all()
        assert (edited != otherwise).any()
    assert all(form_fault(sample) is None for sample in [*samples, *checked_edits(n=5)])
    assert [s.media for s in preferred_edits(n=3)] == [s.media for s in samples[:6]]  # by the seed alone


def test_held_out_instructions_are_asked_in_no_training_sample() -> None:
    taught = {s.answer["instruction"] for s in [*checked_edits(n=200), *preferred_edits(n=200)]}
    asked = {s.answer["instruction"] for s in preferred_edits(n=60, split="test")}
    assert asked == {" ".join(text) for text in HELD_OUT}
    assert taught == {" ".join(text) for text in INSTRUCTIONS} - asked


def record(pair: int, preferred: bool, *scores: float | None, fault: str = "wrong") -> list[Record]:
    """The draws of one side of a pair; None where the chain could not be read."""
    item = f"{pair}-{preferred}"
    meta = {"pair": pair, "preferred": preferred, "fault": fault}
    return [
        Record(
            f"{item}-{draw}", "p", "b", "test", item, draw, "preference", "s", "q", [], [], [], "", 1, {}, meta,
            scores={"score": score or 0.0}, kinds={"score": "unparsed" if score is None else "scored"},
        )
        for draw, score in enumerate(scores)
    ]  # fmt: skip


def written(out: Path, *records: list[Record]) -> Path:
    with RecordWriter(out) as writer:
        writer.append([text for side in records for text in side])
    return out


def test_pair_accuracy_counts_ties_as_half_and_an_unread_side_as_lost(tmp_path: Path) -> None:
    before = written(
        tmp_path / "before",
        record(1, True, 0.9, 0.1), record(1, False, 0.4),            # 0.5 > 0.4
        record(2, True, 0.3), record(2, False, 0.4),                 # lost
        record(3, True, 0.3, None), record(3, False, 0.3, 0.3),      # a tie: the unread chain is left out
        record(4, True, None, fault="partial"), record(4, False, 0.0, fault="partial"),   # nothing to read: lost
        record(5, True, None, fault="partial"), record(5, False, None, fault="partial"),  # neither: a tie
    )  # fmt: skip
    every, partial, wrong = pair_accuracy(before, "score")
    assert (every["mean"], every["n"], every["ties"]) == (0.4, 5, 0.4)
    assert every["low"] < 0.4 < every["high"]
    assert every["unread"] == pytest.approx(4 / 13)
    assert (partial["fault"], partial["mean"], wrong["mean"]) == ("partial", 0.25, 0.5)
    after = written(tmp_path / "after", *[record(p, w, 0.5 + w / 2) for p in range(1, 6) for w in (True, False)])
    assert gained(before, after, "score")["mean"] == 0.6
    with pytest.raises(InputError, match="5 pairs that the other has not"):
        gained(before, written(tmp_path / "none"), "score")


def test_records_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="needs one preferred side"):
        pair_verdicts(record(1, True, 0.5), "score")
    with pytest.raises(InputError, match="no score by 'form'"):
        pair_verdicts(record(1, True, 0.5), "form")


def test_the_whole_path_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(tmp_path, seed=0, sft_steps=2, gcpo_steps=1, chains=60, pairs=8, held_out=4)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert {row["decoding"] for row in rows} == {"greedy", "mean of 8"}
    assert rows[0]["before"]["n"] == rows[0]["after"]["n"] == 4
    assert "difference" in capsys.readouterr().out
