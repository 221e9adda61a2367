"""Earlier answers: the records of another run, or a JSONL file of responses by sample id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from data_engine.schema import Sample
from eval.generation import Draw, Generation
from eval.records import RECORDS, read_records
from mmrl.core.config import InputError
from mmrl.core.vision import Size

Answers = dict[tuple[str, int], tuple[str, int, bool, tuple[Size, ...] | None]]


class ReplayGenerator:
    """Answers draws from a file; a draw without an answer there is an InputError, never an empty answer."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._answers = recorded(source)

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """The answers on file."""
        return [self._answer(draw) for draw in draws]

    def cost(self, sample: Sample) -> int:
        """Nothing is computed, so all prompts cost the same."""
        return 1

    def check(self, draws: Sequence[Draw]) -> None:
        """InputError if there are draws without an answer, before any record is written."""
        missing = [draw for draw in draws if (draw.sample.id, draw.number) not in self._answers]
        if missing:
            example = f"{missing[0].sample.id}, draw {missing[0].number}"
            raise InputError(
                f"{self.source} holds no answer to {len(missing)} of {len(draws)} draws, such as sample {example}"
            )

    def _answer(self, draw: Draw) -> Generation:
        response, tokens, truncated, sizes = self._answers[draw.sample.id, draw.number]
        if sizes is None:  # a file of responses does not say how the model saw the media
            sizes = tuple((media.width or 0, media.height or 0) for media in draw.sample.media)
        return Generation(response, tokens, truncated, sizes)


def recorded(source: Path) -> Answers:
    """The answers in the directory of a run, or in a file with a line `{"id", "response", "draw"}` for each."""
    answers: Answers = {}
    if source.is_dir():
        for record in read_records(source):
            if record.made:
                raise InputError(f"{source} holds pictures, which are not replayed; mmrl eval score scores them again")
            sizes = tuple((width, height) for width, height in record.seen_size)
            answers[record.item_id, record.draw] = record.response, record.tokens, "truncated" in record.flags, sizes
        return answers
    lines = file_of(source).read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            key, response = (row["id"], row.get("draw", 0)), row["response"]
        except (ValueError, KeyError, TypeError, AttributeError):
            key, response = ("", 0), None
        if not isinstance(response, str) or not isinstance(key[0], str) or type(key[1]) is not int:
            wanted = 'expected {"id": ..., "response": "..."} and perhaps "draw"'
            raise InputError(f"{source} line {number}: {wanted}, got {line[:100]!r}")
        if key in answers:
            raise InputError(f"{source} line {number}: a second answer to sample {key[0]}, draw {key[1]}")
        answers[key] = response.encode(errors="replace").decode(), 0, False, None
    return answers


def file_of(source: Path) -> Path:
    """The file that holds the answers of `source`, a file or the directory of a run."""
    place = source / RECORDS if source.is_dir() else source
    if not place.is_file():
        raise InputError(f"no answers at {source}: expected the `out` directory of a run or a JSONL file of responses")
    return place


def fingerprint(source: Path) -> str:
    """The hash of the answers; scores do not change it."""
    return hashlib.sha256(json.dumps(sorted(recorded(source).items())).encode()).hexdigest()[:16]
