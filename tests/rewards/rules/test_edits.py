"""Edits with a known right result, on pictures small enough to count."""

from __future__ import annotations

import pytest
from PIL import Image

from mmrl.core.media.item import Media
from mmrl.core.media.pictures import as_media
from rewards import Rollout, get

SOURCE = Image.new("RGB", (4, 2), (100, 100, 100))
BOTH, LEFT, RIGHT, CORNER = (0, 0, 4, 2), (0, 0, 2, 2), (2, 0, 4, 2), (0, 0, 1, 2)


def white(left: int, top: int, right: int, bottom: int) -> Media:
    picture = SOURCE.copy()
    picture.paste("white", (left, top, right, bottom))
    return as_media(picture)


def rollout(*made: Media, gold: Media | None = None) -> Rollout:
    return Rollout("", media=[as_media(SOURCE)], gold_media=[gold or white(*LEFT)], made=made)


@pytest.mark.parametrize(
    ("made", "score"),
    [
        (white(*LEFT), 1.0),
        (as_media(SOURCE), 0.0),  # nothing done
        (white(*BOTH), 0.0),  # nothing kept
        (white(*RIGHT), 0.0),
        (white(*CORNER), 1 - 155 / 255 / 2),  # half of the place as it was
        (as_media(Image.new("RGB", (2, 2), "white")), 0.0),  # another size
    ],
)
def test_the_lower_of_done_and_kept_counts(made: Media, score: float) -> None:
    (verdict,) = get("edit_match", tolerance=1.0 if made == white(*CORNER) else 0.25)([rollout(made)])
    assert verdict.score == pytest.approx(score)


def test_what_cannot_be_compared_has_no_verdict_and_no_picture_earns_nothing() -> None:
    reward = get("edit_match")
    found = reward([rollout(), rollout(white(*LEFT), gold=as_media(SOURCE)), Rollout("", made=[white(*LEFT)])])
    assert [(verdict.kind, verdict.score) for verdict in found] == [
        *(("unparsed", 0.0), ("abstained", None), ("abstained", None))
    ]


def test_an_edit_of_the_whole_picture_is_only_done() -> None:
    cropped = as_media(Image.new("RGB", (2, 2), "white"))
    found = get("edit_match")([rollout(white(*BOTH), gold=white(*BOTH)), rollout(cropped, gold=cropped)])
    assert [verdict.score for verdict in found] == [1.0, 1.0]
