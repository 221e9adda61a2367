"""Generation with the tiny twins: batches of mixed media answer as each prompt does alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator, predicted_sizes, probe_sizes
from eval.generation import Draw, Sampling, batches
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget, apply_budget, check_budget, geometry_of
from mmrl.model.encoding import kinds_of
from mmrl.model.tiny_twins import ARCHITECTURES, tiny_model
from tests.conftest import TEXTS

GREEDY = Sampling(max_new_tokens=12)
SAMPLED = Sampling(do_sample=True, temperature=1.0, top_p=0.95, max_new_tokens=12, samples=3, seed=7)


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def policy(request: pytest.FixtureRequest, budget: VisionBudget) -> tuple[Any, Any]:
    model, processor = tiny_model(request.param, TEXTS)
    generator = torch.Generator().manual_seed(0)  # a head of its own: a tied one repeats the last token for ever
    model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(model.lm_head.weight.shape, generator=generator))
    apply_budget(processor, budget)
    return model, processor


def seen_by(processor: Any, samples: list[Sample]) -> list[Sample]:
    """The samples whose media a processor takes."""
    kinds = kinds_of(processor)
    return [sample for sample in samples if all(media.kind in kinds for media in sample.media)]


def texts(generator: LocalGenerator, draws: list[Draw]) -> list[str]:
    return [generation.response for generation in generator(draws)]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_batch_of_mixed_media_answers_as_each_prompt_alone(
    policy: tuple[Any, Any], budget: VisionBudget, mixed_samples: list[Sample], sampling: Sampling
) -> None:
    model, processor = policy
    generator = LocalGenerator(model, processor, budget=budget, sampling=sampling)
    draws = [Draw(s, number) for s in seen_by(processor, mixed_samples) for number in range(sampling.samples)]
    together = texts(generator, draws)
    assert together == [texts(generator, [draw])[0] for draw in draws]
    assert len(set(together)) > 1


def test_draws_differ_and_seeds_differ_and_reruns_do_not(
    policy: tuple[Any, Any], budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    draws = [Draw(mixed_samples[1], number) for number in range(3)]
    first, again, other = (
        texts(LocalGenerator(*policy, budget=budget, sampling=sampling), draws)
        for sampling in (SAMPLED, SAMPLED, SAMPLED.model_copy(update={"seed": 8}))
    )
    assert first == again
    assert len({*first, *other}) > 3


def test_a_blind_prompt_is_the_text_alone(
    policy: tuple[Any, Any], budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    model, processor = policy
    sample = mixed_samples[1]
    text_only = replace(sample, prompt=[{"role": "user", "content": sample.prompt[0]["content"][1:]}], media=())
    blind = LocalGenerator(model, processor, budget=budget, sampling=GREEDY, blind=True)([Draw(sample)])[0]
    seeing = LocalGenerator(model, processor, budget=budget, sampling=GREEDY)
    assert blind.response == seeing([Draw(text_only)])[0].response
    assert blind.response != seeing([Draw(sample)])[0].response
    assert blind.seen_size == seeing([Draw(sample)])[0].seen_size


def test_predicted_sizes_are_the_seen_ones(
    policy: tuple[Any, Any], budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    model, processor = policy
    generator = LocalGenerator(model, processor, budget=budget, sampling=GREEDY)
    samples = seen_by(processor, mixed_samples)
    check_budget(processor, budget, probe_sizes(samples, budget, processor))
    for sample, answer in zip(samples, generator([Draw(sample) for sample in samples]), strict=True):
        assert predicted_sizes(sample, budget, geometry_of(processor)) == answer.seen_size


def test_vision_tokens_are_never_sampled_and_penalties_of_the_checkpoint_do_not_apply(
    budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    image_token = model.config.image_token_id
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
    with torch.no_grad():  # a model that wants nothing but image tokens
        model.lm_head.bias[image_token] = 1e4
        model.lm_head.bias[processor.tokenizer.convert_tokens_to_ids("7")] = 10.0
    model.generation_config.repetition_penalty = 100.0
    model.generation_config.do_sample = True
    generator = LocalGenerator(model, processor, budget=budget, sampling=GREEDY)
    answer = generator([Draw(mixed_samples[0])])[0]
    assert (answer.response, answer.tokens, answer.truncated) == ("7" * 12, 12, True)


def test_an_answer_ends_at_the_stop_token(budget: VisionBudget, mixed_samples: list[Sample]) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
    with torch.no_grad():
        model.lm_head.bias[processor.tokenizer.eos_token_id] = 1e4
    answer = LocalGenerator(model, processor, budget=budget, sampling=GREEDY)([Draw(mixed_samples[0])])[0]
    assert (answer.response, answer.tokens, answer.truncated) == ("", 1, False)


def test_generation_leaves_a_model_in_training_as_it_was(budget: VisionBudget, mixed_samples: list[Sample]) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.train()
    LocalGenerator(model, processor, budget=budget, sampling=GREEDY)([Draw(mixed_samples[0])])
    assert model.training


def test_media_that_cannot_be_read_name_the_sample(budget: VisionBudget, mixed_samples: list[Sample]) -> None:
    sample = replace(mixed_samples[1], media=(Media("image", bytes=b"not a picture", width=56, height=56),))
    generator = LocalGenerator(*tiny_model("qwen2_5_vl", TEXTS), budget=budget, sampling=GREEDY)
    with pytest.raises(InputError, match=f"sample {sample.id} of test: "):
        generator([Draw(sample)])


def test_media_too_thin_to_show_name_the_sample_before_any_answer(
    budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    thin = replace(mixed_samples[1], media=(replace(mixed_samples[1].media[0], width=3000, height=10),))
    _, processor = tiny_model("qwen2_5_vl", TEXTS)
    with pytest.raises(
        InputError, match=f"sample {thin.id} of test: 3000x10: one side is more than 200 times the other"
    ):
        probe_sizes([*mixed_samples, thin], budget, processor)


def test_batches_hold_prompts_of_like_cost_the_costliest_first(
    budget: VisionBudget, mixed_samples: list[Sample]
) -> None:
    generator = LocalGenerator(*tiny_model("qwen2_5_vl", TEXTS), budget=budget, sampling=GREEDY)
    draws = [Draw(sample, number) for sample in mixed_samples for number in range(2)]
    plan = batches(draws, 4, generator.cost)
    assert plan == batches(draws[::-1], 4, generator.cost)
    costs = [generator.cost(draw.sample) for batch in plan for draw in batch]
    assert costs == sorted(costs, reverse=True)
    assert plan[-1][-1].sample.media == ()
