"""Every family of models is known where it has to be: its entry against its tiny twin, which has the real code."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from data_engine.schema import Sample
from mmrl.core.families import FAMILIES, Family, family_of
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.model.encoding import encode
from mmrl.model.policy import core, trainable_table
from mmrl.model.sampling import vision_token_ids
from mmrl.model.tiny_twins import ARCHITECTURES
from tests.support.training import tiny_policy

Twin = tuple[str, Family, Any, Any]


@pytest.fixture(params=FAMILIES)
def twin(request: pytest.FixtureRequest, budget: VisionBudget) -> Twin:
    """(name, entry, tiny model, processor) of a family."""
    name = request.param
    family = FAMILIES[name]
    types = [name for name in family.model_types if name in ARCHITECTURES]
    known = " or ".join(family.model_types)
    assert types, f"{name} has no tiny twin: add {known} to ARCHITECTURES in mmrl/model/tiny_twins.py"
    model, processor = tiny_policy(budget, types[0])
    return name, family, model, processor


def test_a_checkpoint_is_of_the_family_that_names_its_type(twin: Twin) -> None:
    name, family, model, _ = twin
    assert family_of(model.config) is family, f"add {model.config.model_type} to {name}.model_types"
    others = [member for member in FAMILIES.values() if member is not family]
    assert not set(family.model_types) & {name for other in others for name in other.model_types}


def test_sizes_are_predicted_for_its_processor_and_only_if_it_says_so(twin: Twin) -> None:
    name, family, _, processor = twin
    geometry = geometry_of(processor)
    parts = type(processor.image_processor).__name__, type(getattr(processor, "video_processor", None)).__name__
    assert (geometry is not None) == bool(family.image_processors), f"{name}: its processor has {parts}"
    if geometry is not None:
        assert geometry.whole_video == family.whole_video, f"{name}.whole_video: its processor has {parts}"


def test_pixels_are_where_the_entry_says(twin: Twin, mixed_samples: list[Sample], budget: VisionBudget) -> None:
    name, family, _, processor = twin
    for kind, field in family.pixels.items():
        sample = next(s for s in mixed_samples if {m.kind for m in s.media} == {kind})
        tensors = encode(processor, sample.prompt, sample.media, budget).tensors
        assert field in tensors, f"{name}.pixels[{kind!r}] is {field}; its processor gives {sorted(tensors)}"
    two = next(s for s in mixed_samples if [m.kind for m in s.media] == ["image", "image"])
    pixels = encode(processor, two.prompt, two.media, budget).tensors[family.pixels["image"]]
    rows = len(pixels) == 1
    assert rows == family.row_per_prompt, f"{name}.row_per_prompt: pixels of two images are {tuple(pixels.shape)}"


def test_rotary_positions_are_as_the_entry_says(twin: Twin) -> None:
    name, family, model, _ = twin
    has = hasattr(core(model), "get_rope_index") and hasattr(core(model), "rope_deltas")
    assert has == family.mrope, f"{name}.mrope should be {has}"


def test_every_parameter_has_a_part(twin: Twin) -> None:
    """The parameters of the language model, and no others, are `language`; the twin has all three parts."""
    name, family, model, _ = twin
    language = {id(parameter) for part in (model.get_decoder(), model.lm_head) for parameter in part.parameters()}
    for parameter, values in model.named_parameters():
        part = family.part_of(parameter)
        assert (part == "language") == (id(values) in language), (
            f"{parameter} is taken for {part}: set {name}.vision_modules and {name}.projector_modules"
        )
    empty = [row["part"] for row in trainable_table(model) if not row["parameters"]]
    assert not empty, f"no parameter is in the parts {empty}: set {name}.vision_modules and {name}.projector_modules"


def test_tokens_that_stand_for_media_are_not_sampled(
    twin: Twin, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    """A special token of a prompt with media that no text prompt has stands for media."""
    name, family, model, processor = twin
    special = set(processor.tokenizer.all_special_ids)
    samples = [s for s in mixed_samples if s.media and all(m.kind in family.pixels for m in s.media)]
    text = next(s for s in mixed_samples if not s.media)
    plain = set(encode(processor, text.prompt, (), budget).input_ids)
    used = {token for s in samples for token in encode(processor, s.prompt, s.media, budget).input_ids}
    missing = (used & special) - plain - set(vision_token_ids(model.config, processor.tokenizer))
    names = processor.tokenizer.convert_ids_to_tokens(sorted(missing))
    assert not missing, f"{names} may be sampled: add their words to {name}.vision_tokens"


PUBLISHED = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}}


@pytest.mark.parametrize(
    ("model_type", "text_config", "mrope"),
    [("glm4v", PUBLISHED, True), ("llava_onevision", None, False), ("internvl", None, False)],
)
def test_other_families_have_the_default_entry(model_type: str, text_config: Any, mrope: bool) -> None:
    family = family_of(AutoConfig.for_model(model_type, text_config=text_config))
    assert (family.model_types, family.mrope, family.row_per_prompt) == ((model_type,), mrope, False)
    for parameter in ("model.multi_modal_projector.linear_1.weight", "model.image_newline"):
        assert family.part_of(parameter) == "projector"
