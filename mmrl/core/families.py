"""The model families: one entry each, with everything that differs between them. Plain data, without torch.

To add a family, write an entry in `FAMILIES` and a tiny twin in `mmrl/model/tiny_twins.py`. The tests train every twin;
`tests/mmrl/test_families.py` compares the entry with it and says what is missing or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmrl.core.boxes import CoordinateSpace
from mmrl.core.media.item import MediaKind

Part = Literal["vision", "projector", "language"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The properties that models of one family share. The defaults fit most families.

    Sizes are predicted for processors whose arithmetic `mmrl.core.vision` repeats. They are recognised by class:
    relatives (GLM-4V, ERNIE, PaddleOCR-VL) have the same fields and resize by other rules. A family without
    `image_processors` makes no claim.
    """

    model_types: tuple[str, ...]  # `model_type` in config.json
    image_processors: frozenset[str] = frozenset()  # names of classes
    video_processors: frozenset[str] = frozenset()
    whole_video: bool = False  # the processor bounds a video's pixels over all frames, not for each frame
    pixels: Mapping[MediaKind, str] = field(  # where the processor puts the pixels of the media that the family takes
        default_factory=lambda: {"image": "pixel_values", "video": "pixel_values_videos"}
    )
    row_per_prompt: bool = False  # pixels have a row per prompt (zeros: no media), not all media one after another
    mrope: bool = False  # multimodal rotary positions: `get_rope_index`, `rope_deltas`, `mm_token_type_ids`
    vision_modules: frozenset[str] = frozenset({"visual", "vision"})  # words in the names of parameters
    projector_modules: frozenset[str] = frozenset({"merger", "projector", "connector", "aligner", "newline"})
    vision_tokens: tuple[str, ...] = ("image", "img", "video", "vision", "<row_")  # in the names of special tokens

    def part_of(self, parameter: str) -> Part:
        """The part that a parameter belongs to; in most models the projector sits inside or next to the vision tower.

        >>> family = FAMILIES["qwen2_vl"]
        >>> family.part_of("model.visual.merger.mlp.0.weight"), family.part_of("model.language_model.norm.weight")
        ('projector', 'language')
        """
        words = set(parameter.replace("_", ".").split("."))
        if words & self.projector_modules:
            return "projector"
        return "vision" if words & self.vision_modules else "language"

    def is_vision_token(self, name: str) -> bool:
        """Whether a special token, or the field of a config with its id, stands for media."""
        return any(word in name for word in self.vision_tokens)


QWEN_IMAGES = frozenset({"Qwen2VLImageProcessor", "Qwen2VLImageProcessorPil"})

FAMILIES = {
    "qwen2_vl": Family(
        model_types=("qwen2_vl", "qwen2_5_vl"),
        image_processors=QWEN_IMAGES,
        video_processors=frozenset({"Qwen2VLVideoProcessor"}),
        mrope=True,
    ),
    "qwen3_vl": Family(
        model_types=("qwen3_vl", "qwen3_vl_moe"),
        image_processors=QWEN_IMAGES,
        video_processors=frozenset({"Qwen3VLVideoProcessor"}),
        whole_video=True,
        mrope=True,
    ),
    "idefics": Family(
        model_types=("idefics2", "idefics3", "smolvlm", "granite_docling"),
        pixels={"image": "pixel_values"},
        row_per_prompt=True,
    ),
}

SPOKEN = {  # `model_type` -> the space in which such models were taught to give coordinates, by their authors' word
    "qwen2_vl": CoordinateSpace.per_mille,
    "qwen2_5_vl": CoordinateSpace.resized,
    "qwen3_vl": CoordinateSpace.per_mille,
    "qwen3_vl_moe": CoordinateSpace.per_mille,
    "internvl": CoordinateSpace.per_mille,
    "glm4v": CoordinateSpace.per_mille,
    "glm4v_moe": CoordinateSpace.per_mille,
    "llava": CoordinateSpace.unit,
}


def family_of(config: Any) -> Family:
    """The family of a model with this config.

    Models of other families have the default entry. Whether they have multimodal rotary positions is read from the
    config; the comparison on the first batch of a training decides whether their prompts can be shared.
    """
    for family in FAMILIES.values():
        if config.model_type in family.model_types:
            return family
    rope: Any = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return Family(model_types=(config.model_type,), mrope="mrope_section" in rope)
