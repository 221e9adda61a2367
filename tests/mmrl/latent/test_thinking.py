"""A thought stands before the answer as tokens would: on several architectures, with any media."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from eval.answer.latent import LatentGenerator
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Sampling
from mmrl.core.config import InputError
from mmrl.model.latent import LatentConfig, LatentHead, load_head, new_head, thinking, with_room
from mmrl.model.loading import SHIPPED
from mmrl.model.policy import load_policy
from tests.support.training import tiny_policy

STEPS = 3


def generator_of(architecture: str, budget: Any) -> LocalGenerator:
    model, processor = tiny_policy(budget, architecture)
    return LocalGenerator(model, processor, budget=budget, sampling=Sampling(max_new_tokens=6))


def shown(samples: Sequence[Sample], architecture: str) -> list[Sample]:
    """Those that the architecture takes in one batch."""
    if architecture != "idefics3":
        return list(samples)
    return [sample for sample in samples if all(media.kind == "image" for media in sample.media)]


@pytest.mark.parametrize("place", ["begin", "end"])
@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl", "idefics3"])
def test_a_thought_of_the_embeddings_of_tokens_is_those_tokens(
    architecture: str, place: Any, budget: Any, mixed_samples: list[Sample]
) -> None:
    generator = generator_of(architecture, budget)
    rows = [generator.encoded(sample) for sample in shown(mixed_samples, architecture)]
    words = generator.processor.tokenizer("I see two", add_special_tokens=False)["input_ids"][:STEPS]
    spaces = [with_room(row, LatentConfig(place=place, steps=STEPS), generator.stops[0]) for row in rows]
    written = []
    for row, (space, start) in zip(rows, spaces, strict=True):
        at = 1 if place == "begin" else len(row.input_ids) - 1
        assert start == len(space.input_ids) - at
        written.append(replace(space, input_ids=[*row.input_ids[:at], *words, *row.input_ids[at:]]))
    embedded = generator.model.get_input_embeddings()(torch.tensor(words)).detach().expand(len(rows), -1, -1)
    expected = torch.stack(generator.next_log_probs(written))
    with thinking(generator.model, embedded, [start for _, start in spaces]):
        found = torch.stack(generator.next_log_probs([space for space, _ in spaces]))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.equal(torch.stack(generator.next_log_probs([space for space, _ in spaces])), expected)


def head_of(model: Any, place: Any = "end") -> LatentHead:
    return new_head(model, "a model", place=place, size=8, steps=STEPS, width=16, deviation=2.0).eval()


def test_an_answer_does_not_depend_on_its_batch(budget: Any, mixed_samples: list[Sample]) -> None:
    model, processor = load_policy(SHIPPED, budget)
    generator = LocalGenerator(model, processor, budget=budget, sampling=Sampling(max_new_tokens=6, do_sample=True))
    head = head_of(generator.model)
    answering, draws = LatentGenerator(generator, head), [Draw(sample, n) for sample in mixed_samples for n in (0, 1)]
    together = answering(draws)
    assert [answer.response for answer in together] == [answering([draw])[0].response for draw in draws]
    assert len({answer.response for answer in together}) > 2


def test_a_greedy_answer_follows_the_mean(budget: Any, mixed_samples: list[Sample]) -> None:
    """Here that of every question stands for the embeddings of a token."""
    model, processor = load_policy(SHIPPED, budget)
    generator = LocalGenerator(model, processor, budget=budget, sampling=Sampling(max_new_tokens=6))
    head = head_of(model)
    rows = [with_room(generator.encoded(sample), head.config, 5)[0] for sample in mixed_samples]
    written = generator.continued(rows, 6, temperature=0.0, keys=[(0,)] * len(rows))
    head.projection[0] = model.get_input_embeddings().weight[5].detach().repeat(STEPS)
    head.said.bias.data[0] = 1.0  # the mean is the first axis
    answers = LatentGenerator(generator, head)([Draw(sample, 0) for sample in mixed_samples])
    assert [answer.response for answer in answers] == [generator.answer(ids, (), {}).response for ids in written]


def test_vectors_are_of_the_size_of_embeddings(budget: Any) -> None:
    model, _ = load_policy(SHIPPED, budget)
    scale = float(model.get_input_embeddings().weight.detach().square().mean().sqrt())
    head = head_of(model)
    torch.manual_seed(0)
    vectors = head.vectors(torch.randn(50, 8))
    assert vectors.shape == (50, STEPS, head.config.embedding)
    assert float(vectors.square().mean().sqrt()) == pytest.approx(scale, rel=0.1)


def test_a_head_is_kept_and_goes_with_one_model(budget: Any, tmp_path: Any) -> None:
    model = generator_of("qwen2_5_vl", budget).model
    head = head_of(model)
    head.save_pretrained(tmp_path / "head")
    model.save_pretrained(tmp_path / "model")
    again = load_head(tmp_path / "head", "a model").state_dict()
    assert all(torch.equal(again[name], value) for name, value in head.state_dict().items())
    with pytest.raises(InputError, match="was trained before another model"):
        load_head(tmp_path / "head", "another")
    with pytest.raises(InputError, match="holds a qwen2_5_vl, not a head of the stage latent"):
        load_head(tmp_path / "model", "a model")
    with pytest.raises(InputError, match=r"no head at .*nowhere"):
        load_head(tmp_path / "nowhere", "a model")
    for key, value, why in (
        ("steps", STEPS + 1, "not as it was written: projection"),
        ("place", "middle", "place 'midd"),
    ):
        config = json.loads((tmp_path / "head" / "config.json").read_text())
        shutil.copytree(tmp_path / "head", tmp_path / key)
        (tmp_path / key / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(InputError, match=why):
            load_head(tmp_path / key, "a model")
    weights = tmp_path / "head" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"the head in .* cannot be read"):
        load_head(tmp_path / "head", "a model")
