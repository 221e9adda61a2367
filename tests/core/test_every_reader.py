"""Policy, judges, heads, pages, server and data engine see the same pixels of any file: those of its plain twin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_engine.schema import Sample, user_prompt
from data_engine.similar.image_hash import fingerprint, pixel_hash
from data_engine.validate.media_checks import inspected
from eval.answer.server import ServerGenerator, ServerSpec
from eval.generation import Draw, Sampling
from mmrl.core.html import page
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.encoding import encode
from mmrl.model.tiny_twins import tiny_model
from mmrl.pages.cards import Exhibit, card
from rewards import Rollout
from rewards.heads.checkpoint_torch import pictures_by_media
from rewards.judge_client.judge_media import Shown
from tests.eval.test_backends import chat
from tests.support.judge_server import ask, serving
from tests.support.markup import checked
from tests.support.odd_media import odd_clips, odd_images, plain_twin

BUDGET = VisionBudget(min_pixels=784, max_pixels=16 * 784, min_frames=4, max_frames=6, total_pixels=96 * 784)

Reader = Callable[[Media], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("odd")
    return odd_images(folder) | odd_clips(folder)


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[str, Reader]]:
    """How each part of the project reads a media item."""
    _, processor = tiny_model("qwen2_5_vl", ["What is it?"])
    apply_budget(processor, BUDGET)
    with serving(lambda body: chat("seen")) as server:
        judge = server.judge(max_pixels=10**6, max_frames=4)
        spec = ServerSpec(base_url=server.url)
        generator = ServerGenerator(spec, "served", budget=BUDGET, sampling=Sampling())

        def policy(media: Media) -> list[np.ndarray]:
            tensors = encode(processor, user_prompt("What is it?", [media.kind]), [media], BUDGET).tensors
            return [tensor.numpy() for tensor in tensors.values() if isinstance(tensor, torch.Tensor)]

        def judged(media: Media) -> str:
            assert judge.ask_all([ask(shown=(Shown(media),))])[0].text == "seen"
            return pictures(server.bodies.pop())

        def served(media: Media) -> str:
            sample = Sample(media.path or "", "test", "text", user_prompt("What is it?", [media.kind]), {}, (media,))
            assert generator([Draw(sample)])[0].response == "seen"
            return pictures(server.bodies.pop())

        yield {
            "policy": policy,
            "judge": judged,
            "head": lambda media: [np.asarray(picture) for picture in pictures_by_media(Rollout("", media=[media]))[0]],
            "page": lambda media: [np.asarray(picture) for picture in checked(page("x", exhibited(media))).images()],
            "server": served,
            "data engine": pixel_hash,
            "measures": lambda media: inspected(media).media.width,
        }


def pictures(body: Any) -> str:
    """The data URIs that a server was sent."""
    return " ".join(re.findall(r"data:image/\w+;base64,[^'\"]+", str(body)))


def exhibited(media: Media) -> Any:
    return card(Exhibit("x", "", user_prompt("What is it?", [media.kind]), "", [media]))


def test_every_reader_shows_of_an_odd_file_what_it_shows_of_its_plain_twin(
    files: dict[str, Path], readers: dict[str, Reader], tmp_path: Path
) -> None:
    for name, path in files.items():
        odd, plain = probe(path), probe(plain_twin(path, tmp_path))
        assert (odd.width, odd.height, odd.num_frames) == (plain.width, plain.height, plain.num_frames), name
        for reader, read in readers.items():
            same = read(Media(odd.kind, path=str(path))), read(Media(plain.kind, path=plain.path))
            assert all(map(np.array_equal, *same)) if isinstance(same[0], list) else same[0] == same[1], (name, reader)
            assert len(same[0]) if isinstance(same[0], list | str) else same[0], (name, reader)


def test_hashes_of_pictures_agree_as_well(files: dict[str, Path], tmp_path: Path) -> None:
    """They are made of a smaller picture, which JPEG gives faster: alike, not equal."""
    for name, path in files.items():
        odd, plain = (
            fingerprint(Media(probe(file).kind, path=str(file))) for file in (path, plain_twin(path, tmp_path))
        )
        apart = np.bitwise_count(odd.phash ^ plain.phash)
        assert apart.max() <= (4 if path.suffix == ".jpg" else 0), name


def test_media_inside_a_sample_are_read_like_files(files: dict[str, Path], readers: dict[str, Reader]) -> None:
    for name in ("transparent.png", "turned-wide.mp4"):
        media = probe(files[name])
        inside = Media(media.kind, bytes=files[name].read_bytes())
        for reader, read in readers.items():
            same = read(media), read(inside)
            assert all(map(np.array_equal, *same)) if isinstance(same[0], list) else same[0] == same[1], (name, reader)
