"""The model families that have something that cannot be derived from their classes. Plain data, without torch.

Most families need no entry. `tests/support/families` has a tiny twin of every family that is tested, and
`tests/mmrl/test_families.py` says what is missing or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mmrl.core.boxes import CoordinateSpace

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
    row_per_prompt: bool = False  # pixels have a row per prompt (zeros: no media), not all media one after another
    type_of_answers: int | None = None  # `token_type_ids` of the tokens behind a prompt; None: as its last token
    fails_on: frozenset[str] = frozenset()  # kinds that its processor takes and its model fails on (transformers 5.23)
    one_kind_in: Literal["prompt", "batch"] | None = None  # where images and videos do not mix
    equal_counts: bool = False  # the prompts of a batch must show as many pictures
    pixels_along: int = 0  # the dimension along which the pixels of pictures follow each other
    one_video_length: bool = False  # the videos of a batch must have as many frames
    both_ways: Literal["pictures", "windows"] | None = None  # tokens of a picture attend to each other: in all layers,
    # or in those with a window; a model with a mask of its own that has no entry shares no prompts
    vision_modules: frozenset[str] = frozenset({"visual", "vision"})  # words in the names of parameters
    projector_modules: frozenset[str] = frozenset({"merger", "projector", "connector", "aligner", "newline"})
    projector_names: frozenset[str] = frozenset(
        {"embed_vision", "embed_audio", "head_linear", "visual_embeddings_table"}
    )
    vision_tokens: tuple[str, ...] = (  # in the names of special tokens, in small letters
        *("image", "img", "video", "vision", "audio", "<row_", "tile", "patch", "slice", "media"),
    )

    def part_of(self, parameter: str) -> Part:
        """The part that a parameter belongs to; in most models the projector sits inside or next to the vision tower.

        >>> family = FAMILIES["qwen2_vl"]
        >>> family.part_of("model.visual.merger.mlp.0.weight"), family.part_of("model.language_model.norm.weight")
        ('projector', 'language')
        """
        words = set(parameter.replace("_", ".").split("."))
        if words & self.projector_modules or self.projector_names & set(parameter.split(".")):
            return "projector"
        return "vision" if words & self.vision_modules else "language"

    def is_vision_token(self, name: str) -> bool:
        """Whether a special token, or the field of a config with its id, stands for media."""
        return any(word in name.lower() for word in self.vision_tokens)


QWEN_IMAGES = frozenset({"Qwen2VLImageProcessor", "Qwen2VLImageProcessorPil"})

FAMILIES = {
    "qwen2_vl": Family(
        model_types=("qwen2_vl", "qwen2_5_vl"),
        image_processors=QWEN_IMAGES,
        video_processors=frozenset({"Qwen2VLVideoProcessor"}),
    ),
    "qwen3_vl": Family(
        model_types=("qwen3_vl", "qwen3_vl_moe"),
        image_processors=QWEN_IMAGES,
        video_processors=frozenset({"Qwen3VLVideoProcessor"}),
        whole_video=True,
    ),
    "idefics": Family(
        model_types=("idefics2", "idefics3", "granite_docling"),
        row_per_prompt=True,
    ),
    "llava_video": Family(model_types=("llava_onevision", "llava_next_video", "video_llava"), one_video_length=True),
    "gemma3": Family(model_types=("gemma3", "shieldgemma2"), both_ways="pictures"),
    "gemma4": Family(model_types=("gemma4", "gemma4_unified"), both_ways="windows"),
    "glm4v": Family(  # its video tokens are image tokens
        model_types=("glm4v", "glm4v_moe", "glm46v", "glm_ocr", "glmga"), one_kind_in="batch"
    ),
    "kimi": Family(
        model_types=("kimi_k25",), fails_on=frozenset({"video"})
    ),  # chunks of several frames are split wrong
    "minicpm": Family(model_types=("minicpmv4_6", "minicpmv4_7", "minicpm_ocr"), pixels_along=-1),
    "mllama": Family(  # tokens before a picture attend to all pictures of the batch, those that are padding included
        model_types=("mllama",), row_per_prompt=True, equal_counts=True
    ),
    "smolvlm": Family(model_types=("smolvlm",), row_per_prompt=True, one_kind_in="prompt"),
    "paligemma": Family(model_types=("paligemma",), type_of_answers=1),
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
    """The family of a model with this config. Models of other families have the default entry."""
    for family in FAMILIES.values():
        if config.model_type in family.model_types:
            return family
    return Family(model_types=(config.model_type,))
