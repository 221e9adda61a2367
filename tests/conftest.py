"""Real material for the tests: tiny models, pictures, H.264 clips, samples of every kind of prompt."""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_count, digits_grounding, digits_video
from mmrl.cli import VERBS, run
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe

TEXTS = [
    "Locate the 7. How many digits are there? When is the 3 visible? Which digit comes first? What is new in these?",
    "<think>the 7 is here I see two</think><answer>[12,30,40,60]</answer> yes no A B C D [0.5,2.0]",
    *(str(number) for number in range(100)),
]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `mmrl WORDS` prints: `says("data", "score", place)`; with its errors where it must end with a `status`."""

    def printed(verb: str, *words: object, status: int = 0) -> str:
        with pytest.raises(SystemExit) as done:
            run(f"mmrl {verb}", VERBS[verb][0], [str(word) for word in words])
        output = capsys.readouterr()
        assert done.value.code == status, output.err
        return output.out + output.err if status else output.out

    return printed


@pytest.fixture(scope="session")
def budget() -> Any:
    from mmrl.core.vision import VisionBudget

    return VisionBudget(
        min_pixels=784, max_pixels=56 * 56, fps=2.0, min_frames=2, max_frames=8, total_pixels=8 * 56 * 56
    )


@pytest.fixture(scope="session")
def mixed_samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Text only, one image, two images of different sizes, a video, and an image with a video; media on disk."""
    directory = tmp_path_factory.mktemp("media")
    image, other = (next(digits_grounding(n=1, seed=seed, side=side)) for seed, side in ((0, 112), (1, 84)))
    count, video = next(digits_count(n=1, side=112)), next(digits_video(n=1, side=112))
    first, second, clip = (stored(sample.media[0], directory) for sample in (image, other, video))
    prompts = [
        ("text", user_prompt("What is new in these?"), {"text": ["yes"]}, ()),
        ("grounding", image.prompt, image.answer, (first,)),
        ("count", user_prompt("How many digits are there?", ["image", "image"]), count.answer, (first, second)),
        ("temporal", video.prompt, video.answer, (clip,)),
        (
            "yesno",
            user_prompt("<image>Which digit comes first?<video>", ["image", "video"]),
            {"yesno": True},
            (second, clip),
        ),
    ]
    return [
        with_id(Sample("", "test", task, prompt, answer, media, {"rationale": "I see"}))
        for task, prompt, answer, media in prompts
    ]


def stored(media: Media, directory: Path) -> Media:
    """`media` written to disk and probed."""
    assert media.bytes is not None
    if media.kind == "image":
        place = directory / f"{sha256(media.bytes).hexdigest()[:16]}.png"
        Image.open(io.BytesIO(media.bytes)).save(place)
    else:
        place = directory / f"{sha256(media.bytes).hexdigest()[:16]}.mp4"
        place.write_bytes(media.bytes)
    return probe(str(place))


@pytest.fixture
def picture(tmp_path: Path) -> Media:
    """A red picture of 40x30 as rewards see it."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    return Media("image", str(tmp_path / "a.png"), width=40, height=30)
