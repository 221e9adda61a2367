"""Tiny twins of families with a patch grid: Qwen's, and those that took over its vision part."""

from __future__ import annotations

from typing import Any

from transformers import (
    Exaone4_5_Processor,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    Lfm3VlProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from mmrl.model.tiny_twins import QWEN_TEMPLATE, QWEN_TOKENS, tiny_model
from tests.conftest import TEXTS
from tests.support.families.parts import MROPE, PATCH, id_of, model_of, template, text_config, tokenizer

Twin = tuple[Any, Any]

PATCHES: dict[str, Any] = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
TOWER: dict[str, Any] = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": PATCH,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2,
}  # fmt: skip


def qwen2_vl() -> Twin:
    """Qwen2-VL."""
    words = tokenizer(*QWEN_TOKENS)
    tower = {**TOWER, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    text = text_config(words, rope_parameters=MROPE)
    model = model_of("qwen2_vl", words, text_config=text, vision_config=tower, **_ids(words))
    return model, _processor(words, Qwen2VLProcessor, Qwen2VLVideoProcessor)


def qwen2_5_vl() -> Twin:
    """Qwen2.5-VL."""
    return tiny_model("qwen2_5_vl", TEXTS)


def qwen3_vl() -> Twin:
    """Qwen3-VL."""
    return tiny_model("qwen3_vl", TEXTS)


def qwen3_vl_moe() -> Twin:
    """Qwen3-VL with experts."""
    tower = {**TOWER, "num_position_embeddings": 64, "deepstack_visual_indexes": [1]}
    return _qwen3("qwen3_vl_moe", tower, **EXPERTS)


def qwen3_5() -> Twin:
    """Qwen3.5: layers of linear attention, which carry a state."""
    return _qwen3("qwen3_5", {**TOWER, "num_position_embeddings": 64}, **LINEAR)


def qwen3_5_moe() -> Twin:
    """Qwen3.5 with experts."""
    experts = {**EXPERTS, "shared_expert_intermediate_size": 32}
    return _qwen3("qwen3_5_moe", {**TOWER, "num_position_embeddings": 64}, **LINEAR, **experts)


def exaone4_5() -> Twin:
    """EXAONE 4.5: Qwen2.5's vision part before a language model with windows."""
    words = tokenizer(*QWEN_TOKENS)
    tower = {**TOWER, "num_key_value_heads": 1, "window_size": 4 * PATCH * 2, "fullatt_block_indexes": [1]}
    text = text_config(words, layer_types=["sliding_attention", "full_attention"], model_type="exaone4")
    model = model_of("exaone4_5", words, text_config=text, vision_config=tower, **_ids(words, marks=False))
    return model, _processor(words, Exaone4_5_Processor, Qwen2VLVideoProcessor)


def lfm3_vl() -> Twin:
    """LFM3-VL: convolutions and windows; its tokenizer begins every text with a token."""
    words = tokenizer(*QWEN_TOKENS, bos="<|startoftext|>")
    tower = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "patch_size": PATCH,
    }  # fmt: skip
    text = text_config(words, model_type="lfm3", layer_types=["conv", "full_attention"])
    ids = _ids(words)
    model = model_of("lfm3_vl", words, text_config=text, vision_config=tower, projector_hidden_size=64, **ids)
    return model, _processor(words, Lfm3VlProcessor, Qwen3VLVideoProcessor, bos="<|startoftext|>")


def glm4v() -> Twin:
    """GLM-4V."""
    return _glm("glm4v", Glm4vProcessor, Glm4vImageProcessor, Glm4vVideoProcessor)


def glm46v() -> Twin:
    """GLM-4.6V."""
    return _glm("glm46v", Glm46VProcessor, Glm46VImageProcessor, Glm46VVideoProcessor)


def _glm(model_type: str, processor: Any, pictures: Any, clips: Any) -> Twin:
    marks = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
    words = tokenizer("<|image|>", "<|video|>", *marks, "<|user|>", "<|assistant|>", "<|system|>", eos="<|endoftext|>")
    names = ("image_start", "image_end", "video_start", "video_end")
    ids = {f"{name}_token_id": id_of(words, mark) for name, mark in zip(names, marks, strict=True)}
    ids |= {"image_token_id": id_of(words, "<|image|>"), "video_token_id": id_of(words, "<|video|>")}
    tower = {**TOWER, "image_size": 56, "intermediate_size": 64}
    text = text_config(words, rope_parameters={**MROPE, "partial_rotary_factor": 1.0}, model_type="glm4v_text")
    model = model_of(
        model_type, words, stops=("<|user|>",), text_config=text, vision_config={**tower, "model_type": "glm4v_vision"},
        **ids,
    )  # fmt: skip
    image, video = (f"{marks[at]}<|{kind}|>{marks[at + 1]}" for at, kind in ((0, "image"), (2, "video")))
    written = template(image=image, video=video, head=("<|", "|>\n"), end="")
    return model, processor(
        image_processor=pictures(**PATCHES, size={"shortest_edge": 784, "longest_edge": 4 * 3136}),
        tokenizer=words,
        video_processor=clips(**PATCHES, size={"shortest_edge": 784, "longest_edge": 16 * 3136}),
        chat_template=written,
    )


def _qwen3(model_type: str, tower: dict[str, Any], **text: Any) -> Twin:
    words = tokenizer(*QWEN_TOKENS)
    rope = {"rope_parameters": {**MROPE, "mrope_interleaved": True}}
    values = text_config(words, **rope, **text)
    model = model_of(model_type, words, text_config=values, vision_config=tower, **_ids(words))
    return model, _processor(words, Qwen3VLProcessor, Qwen3VLVideoProcessor)


def _ids(words: Any, *, marks: bool = True) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    pairs = list(zip(names, tokens, strict=True))
    return {name: id_of(words, token) for name, token in (pairs if marks else pairs[:2])}


def _processor(words: Any, processor: Any, clips: Any, *, bos: str = "") -> Any:
    return processor(
        image_processor=Qwen2VLImageProcessor(**PATCHES),
        tokenizer=words,
        video_processor=clips(**PATCHES),
        chat_template=bos + QWEN_TEMPLATE,
    )
