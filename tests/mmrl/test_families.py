"""Every family of models, by a tiny twin of the real classes: its prompts are those of the library, alone and mixed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.families import FAMILIES, Family, family_of
from mmrl.core.media.image import load_image
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.grpo.shared_prefix.prefix_cache import left_padded, prefilled, takes_prefill, within_window
from mmrl.model.encoding import Encoded, encode, kinds_of
from mmrl.model.inputs import check_inputs, media_inputs
from mmrl.model.policy import trainable_table
from mmrl.model.sampling import plain_generation, vision_token_ids
from tests.support.families import PICTURES_ONLY, TWINS, twin, twin_of
from tests.support.families.page import PLACE, page

NAMES = sorted(TWINS)
EXACT = 1e-5
ROUNDING = {"Gemma 4": 4e-6}  # of a log-prob in float32, relative: its prompts have a thousand tokens


def shown(name: str, processor: Any, samples: list[Sample]) -> list[Sample]:
    """The samples that a family takes."""
    kinds = kinds_of(processor) - family_of(twin_of(name)[0].config).fails_on
    seen = [sample for sample in samples if {media.kind for media in sample.media} <= kinds]
    if family_of(twin_of(name)[0].config).one_kind_in:
        seen = [sample for sample in seen if len({media.kind for media in sample.media}) < 2]
    return [sample for sample in seen if sample.media or name not in PICTURES_ONLY]


def of_the_library(processor: Any, sample: Sample, budget: VisionBudget) -> Any:
    """What the library's own way makes of a sample: the messages with their media, in one call."""
    metadata, messages = [], []
    media = iter(sample.media)
    for message in sample.prompt:
        parts = []
        for part in message["content"]:
            if part["type"] == "image":
                part = {"type": "image", "image": load_image(next(media))}
            elif part["type"] == "video":
                video = load_video(next(media), budget, geometry=geometry_of(processor))
                metadata.append(video.metadata())
                part = {"type": "video", "video": video.frames}
            parts.append(part)
        messages.append({**message, "content": parts})
    options = {"video_metadata": metadata, "do_sample_frames": False} if metadata else {}
    return processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt",
        processor_kwargs=options,
    )  # fmt: skip


@torch.no_grad()
def log_probs(model: Any, **inputs: Any) -> Tensor:
    """[R, T, V] of one forward."""
    return model(**inputs, use_cache=False).logits.float().log_softmax(-1)


def alone(model: Any, row: Encoded) -> Tensor:
    ids = torch.tensor([row.input_ids])
    return log_probs(
        model, input_ids=ids, attention_mask=torch.ones_like(ids), **media_inputs([row], ids, model)
    )[0]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_those_of_the_library(name: str, mixed_samples: list[Sample], budget: VisionBudget) -> None:
    model, processor = twin(name, budget)
    rows = []
    for sample in shown(name, processor, mixed_samples):
        row = encode(processor, sample.prompt, sample.media, budget)
        expected = of_the_library(processor, sample, budget)
        assert row.input_ids == expected["input_ids"][0].tolist()
        named = {key: value for key, value in expected.items() if key in taken(model)}
        assert_close(alone(model, row), log_probs(model, **named)[0], atol=EXACT, rtol=0)
        rows.append(row)
    for kept in together(family_of(model.config), rows):
        batch_of(model, processor, kept, rounding=ROUNDING.get(name, 1e-6))


def together(family: Family, rows: list[Encoded]) -> list[list[Encoded]]:
    """The rows in batches that the family can have."""
    if family.equal_counts:
        return [[row for row in rows if len(row.kinds) == count] for count in (0, 1, 2)]
    if family.one_kind_in == "batch":
        return [[row for row in rows if kind not in row.kinds] for kind in ("image", "video")]
    return [rows]


def batch_of(model: Any, processor: Any, rows: list[Encoded], *, rounding: float) -> None:
    """A mixed batch gives each row what it gets alone, padded on the left before an answer and on the right."""
    answer = processor.tokenizer("Where?", add_special_tokens=False)["input_ids"][:3]
    length = max(len(row.input_ids) for row in rows)
    for left in (True, False):
        ids = torch.full((len(rows), length + 3), processor.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        starts = [length - len(row.input_ids) if left else 0 for row in rows]
        for r, (row, start) in enumerate(zip(rows, starts, strict=True)):
            end = start + len(row.input_ids) + 3
            ids[r, start:end] = torch.tensor([*row.input_ids, *answer])
            mask[r, start:end] = 1
        media = media_inputs(rows, ids, model, completion=3, left=left)
        mixed = log_probs(model, input_ids=ids, attention_mask=mask, **media)
        for r, (row, start) in enumerate(zip(rows, starts, strict=True)):
            end = start + len(row.input_ids) + 3
            single = media_inputs([row], ids[r : r + 1, start:end], model, completion=3)
            whole = log_probs(
                model, input_ids=ids[r : r + 1, start:end], attention_mask=mask[r : r + 1, start:end], **single
            )
            assert_close(mixed[r, start:end], whole[0], atol=EXACT, rtol=rounding)


@pytest.mark.parametrize("name", [name for name in NAMES if takes_prefill(twin_of(name)[0])])
def test_prompts_read_once_give_the_tokens_of_plain_ones(
    name: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = twin(name, budget)
    rows = [encode(processor, s.prompt, s.media, budget) for s in shown(name, processor, mixed_samples)]
    rows = [row for row in rows if within_window(model, [row])]
    for some in together(family_of(model.config), rows):
        pairs = [row for row in some for _ in range(2)]
        ours, plain = (greedy(model, processor, pairs, shared=shared) for shared in (True, False))
        assert_close(ours, plain, atol=EXACT, rtol=ROUNDING.get(name, 1e-6))


@torch.no_grad()
def greedy(model: Any, processor: Any, rows: list[Encoded], *, shared: bool) -> Tensor:
    """[R, 3, V] log-probs of the first tokens of greedy answers to prompts of unequal length."""
    pad, device = processor.tokenizer.pad_token_id, "cpu"

    def media(some: Sequence[Encoded], ids: Tensor) -> dict[str, Tensor]:
        return media_inputs(some, ids, model)

    ids, mask = left_padded(rows, pad, device)
    inputs = prefilled(model, rows, media, pad=pad, device=device) if shared else media(rows, ids)
    settings: Any = {"max_new_tokens": 3, "output_logits": True, "return_dict_in_generate": True, "eos_token_id": None}
    with plain_generation(model):
        made = model.generate(input_ids=ids, attention_mask=mask, **inputs, **settings, pad_token_id=pad)
    return torch.stack(made.logits, dim=1).log_softmax(-1)


def taken(model: Any) -> set[str]:
    """What `forward` of a model names."""
    return set(inspect.signature(type(model).forward).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_stand_for_media_are_not_sampled(
    name: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    """A special token of a prompt with media that no text prompt has stands for media."""
    model, processor = twin(name, budget)
    special = set(processor.tokenizer.all_special_ids) - {processor.tokenizer.bos_token_id}
    with_media = [s for s in shown(name, processor, mixed_samples) if s.media]
    text = processor.apply_chat_template(user_prompt("What is new?"), tokenize=False, add_generation_prompt=True)
    plain = set(processor.tokenizer(text)["input_ids"])
    used = {token for s in with_media for token in encode(processor, s.prompt, s.media, budget).input_ids}
    missing = (used & special) - plain - set(vision_token_ids(model.config, processor))
    names = processor.tokenizer.convert_ids_to_tokens(sorted(missing))
    assert not missing, f"{names} may be sampled: add their words to Family.vision_tokens"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_part(name: str, budget: VisionBudget) -> None:
    """The parameters of the language model, and no others, are `language`; the model has all three parts."""
    model, _ = twin(name, budget)
    family = family_of(model.config)
    parts = [model.get_decoder(), model.get_output_embeddings()]
    language = {id(parameter) for part in parts for parameter in part.parameters()}
    for parameter, values in model.named_parameters():
        part = family.part_of(parameter)
        assert (part == "language") == (id(values) in language), (
            f"{parameter} is taken for {part}: set vision_modules and projector_modules of its entry in FAMILIES"
        )
    empty = [row["part"] for row in trainable_table(model) if not row["parameters"]]
    assert not empty, f"no parameter is in the parts {empty}: set vision_modules and projector_modules"


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_of_media_that_a_family_does_not_take_is_refused(
    name: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    _, processor = twin(name, budget)
    clip = next(sample for sample in mixed_samples if [m.kind for m in sample.media] == ["video"])
    if "video" in kinds_of(processor):
        assert encode(processor, clip.prompt, clip.media, budget).tensors
    else:
        with pytest.raises(InputError, match="takes no videos"):
            encode(processor, clip.prompt, clip.media, budget)


@pytest.mark.parametrize("name", [name for name in NAMES if family_of(twin_of(name)[0].config).fails_on])
def test_what_the_library_fails_on_is_refused_at_the_start(
    name: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    model, processor = twin(name, budget)
    clip = next(sample for sample in mixed_samples if [m.kind for m in sample.media] == ["video"])
    with pytest.raises(InputError, match=f"{model.config.model_type} fails on videos"):
        check_inputs(model, processor, [["video"]])
    inputs = of_the_library(processor, clip, budget)
    with pytest.raises(RuntimeError):
        log_probs(model, **{key: value for key, value in inputs.items() if key in taken(model)})


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.image_processors])
def test_sizes_are_predicted_for_its_processor_and_only_if_it_says_so(name: str, budget: VisionBudget) -> None:
    predicted = {family_of(twin(each, budget)[0].config) for each in NAMES if geometry_of(twin(each, budget)[1])}
    assert FAMILIES[name] in predicted


def test_a_model_type_belongs_to_one_family() -> None:
    types = [model_type for family in FAMILIES.values() for model_type in family.model_types]
    assert len(types) == len(set(types))


def test_the_page_of_the_families_is_current() -> None:
    assert PLACE.read_text(encoding="utf-8") == page(), "python -m tests.support.families.page writes it anew"
