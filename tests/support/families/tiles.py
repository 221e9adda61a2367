"""Tiny twins of families that cut pictures into tiles or squares: LLaVA's, InternVL, Idefics, Pixtral, Llama 3.2."""

from __future__ import annotations

from typing import Any

from transformers import (
    AyaVisionProcessor,
    CLIPImageProcessor,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    GotOcr2ImageProcessor,
    Idefics2ImageProcessor,
    Idefics2Processor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MllamaImageProcessor,
    MllamaProcessor,
    Ovis2ImageProcessor,
    Ovis2Processor,
    PixtralImageProcessor,
    PixtralProcessor,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from mmrl.model.tiny_twins import IDEFICS_TEMPLATE, IDEFICS_TOKENS, tiny_model
from tests.conftest import TEXTS
from tests.support.families.parts import (
    PATCH,
    VISION,
    id_of,
    model_of,
    square,
    template,
    text_config,
    tokenizer,
)

Twin = tuple[Any, Any]
SIDE = 2 * PATCH  # pixels of a tile
GRIDS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
CLIP = {**VISION, "model_type": "clip_vision_model", "image_size": SIDE, "projection_dim": 32}
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "image_size": SIDE, "vision_use_head": False}
SIGHT = {"patch_size": PATCH, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"}
CROPPED: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
BOS = "<s>"


def llava() -> Twin:
    """LLaVA 1.5."""
    words = tokenizer("<image>", eos="</s>", bos=BOS)
    model = model_of("llava", words, **_llava(words, CLIP))
    return model, LlavaProcessor(CLIPImageProcessor(**CROPPED), words, chat_template=_speakers("<image>\n"), **SIGHT)


def llava_next() -> Twin:
    """LLaVA-NeXT: tiles of the shape of the picture."""
    words = tokenizer("<image>", eos="</s>", bos=BOS)
    model = model_of("llava_next", words, **_llava(words, CLIP), image_grid_pinpoints=GRIDS)
    pictures = LlavaNextImageProcessor(**CROPPED, image_grid_pinpoints=GRIDS)
    return model, LlavaNextProcessor(pictures, words, chat_template=_speakers("<image>\n"), **SIGHT)


def llava_next_video() -> Twin:
    """LLaVA-NeXT-Video."""
    words = tokenizer("<image>", "<video>", eos="</s>", bos=BOS)
    ids = {"video_token_index": id_of(words, "<video>"), "image_grid_pinpoints": GRIDS}
    model = model_of("llava_next_video", words, **_llava(words, CLIP), **ids)
    pictures = LlavaNextImageProcessor(**CROPPED, image_grid_pinpoints=GRIDS)
    written = _speakers("<image>\n", "<video>\n")
    clips = LlavaNextVideoVideoProcessor(**CROPPED)
    return model, LlavaNextVideoProcessor(clips, pictures, words, chat_template=written, **SIGHT)


def llava_onevision() -> Twin:
    """LLaVA-OneVision: one picture in tiles, several as they are."""
    words = tokenizer("<image>", "<video>")
    ids = {"video_token_index": id_of(words, "<video>"), "image_grid_pinpoints": GRIDS}
    config = {**_llava(words, SIGLIP, "qwen2"), **ids, "vision_feature_select_strategy": "full"}
    model = model_of("llava_onevision", words, **config, vision_feature_layer=-1)
    return model, LlavaOnevisionProcessor(
        square(LlavaOnevisionImageProcessor, SIDE, image_grid_pinpoints=GRIDS),
        words,
        square(LlavaOnevisionVideoProcessor, SIDE),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template(image="<image>\n", video="<video>\n"),
    )


def internvl() -> Twin:
    """InternVL, in transformers' own form."""
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    tower = {**VISION, "image_size": [2 * SIDE] * 2, "patch_size": [PATCH] * 2, "model_type": "internvl_vision"}
    ids = {"image_token_id": id_of(words, "<IMG_CONTEXT>"), "image_seq_length": 4}
    text = text_config(words, model_type="qwen2")
    model = model_of("internvl", words, text_config=text, vision_config=tower, **ids)
    return model, InternVLProcessor(
        square(GotOcr2ImageProcessor, 2 * SIDE, max_patches=2),
        words,
        square(InternVLVideoProcessor, 2 * SIDE),
        image_seq_length=4,
        chat_template=template(image="<IMG_CONTEXT>\n", video="<video>\n"),
    )


def idefics2() -> Twin:
    """Idefics2: a resampler makes as many tokens of every picture."""
    words = tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", eos="</s>", bos=BOS)
    perceiver = {
        "hidden_size": 64, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
        "resampler_head_dim": 16, "num_key_value_heads": 1,
    }  # fmt: skip
    written = template(image="<image>", bos=BOS, head=("", ":"), end="<end_of_utterance>\n", roles=SPEAKERS)
    processor = Idefics2Processor(
        Idefics2ImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}),
        words,
        image_seq_len=4,
        chat_template=written,
    )
    model = model_of(
        "idefics2", words, stops=("<end_of_utterance>",), text_config=text_config(words, model_type="mistral"),
        vision_config={**VISION, "image_size": 2 * SIDE}, perceiver_config=perceiver,
        image_token_id=id_of(words, "<image>"),
    )  # fmt: skip
    return model, processor


def idefics3() -> Twin:
    """Idefics3."""
    return tiny_model("idefics3", TEXTS)


def smolvlm() -> Twin:
    """SmolVLM: Idefics3 with videos, its pictures split."""
    words = tokenizer(*IDEFICS_TOKENS, "<video>", eos="<end_of_utterance>")
    sizes: dict[str, Any] = {"size": {"longest_edge": 4 * SIDE}, "max_image_size": {"longest_edge": 2 * SIDE}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes),
        words,
        SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=IDEFICS_TEMPLATE.replace(
            "{%- else %}{{ ' ' + part", "{%- elif part['type'] == 'video' %}{{ '<video>' }}{%- else %}{{ ' ' + part"
        ),
    )
    model = model_of(
        "smolvlm", words, text_config=text_config(words, model_type="llama"), scale_factor=2,
        vision_config={**VISION, "image_size": 2 * SIDE}, image_token_id=id_of(words, "<image>"),
    )  # fmt: skip
    return model, processor


def mllama() -> Twin:
    """Llama 3.2 Vision: pictures are read by layers of cross-attention."""
    begin = "<|begin_of_text|>"
    words = tokenizer(
        "<|image|>", "<|python_tag|>", "<|start_header_id|>", "<|end_header_id|>", eos="<|eot_id|>", bos=begin
    )
    tower = {
        **VISION, "attention_heads": 2, "num_global_layers": 1, "vision_output_dim": 96, "image_size": SIDE,
        "intermediate_layers_indices": [0, 1], "max_num_tiles": 2,
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }  # fmt: skip
    text = text_config(words, num_hidden_layers=3, cross_attention_layers=[1])
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4}
    ids = {"image_token_index": id_of(words, "<|image|>")}
    model = model_of("mllama", words, text_config=text, vision_config=tower, **ids)
    with_gates(model)
    head = ("<|start_header_id|>", "<|end_header_id|>\n\n")
    return model, MllamaProcessor(
        square(MllamaImageProcessor, SIDE, max_image_tiles=2),
        words,
        chat_template=template(image="<|image|>", bos=begin, head=head, end="<|eot_id|>"),
    )


def with_gates(model: Any) -> None:
    """Open the gates of cross-attention, which are closed in a new model."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate" in name and weight.numel() == 1:
                weight.fill_(0.7)


def mistral3() -> Twin:
    """Mistral Small 3.1."""
    words = tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]", eos="</s>", bos=BOS)
    config = {**_llava(words, _pixtral(), "mistral"), "image_token_index": id_of(words, "[IMG]")}
    config.pop("vision_feature_select_strategy")
    model = model_of("mistral3", words, **config, spatial_merge_size=2, vision_feature_layer=-1)
    return model, _pixtral_processor(words, 2)


def pixtral() -> Twin:
    """Pixtral, of the class of LLaVA."""
    words = tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]", eos="</s>", bos=BOS)
    config = {**_llava(words, _pixtral(), "mistral"), "image_token_index": id_of(words, "[IMG]")}
    config |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    return model_of("llava", words, **config), _pixtral_processor(words, 1)


def ovis2() -> Twin:
    """Ovis2: pictures as mixtures of visual words."""
    marks = [f"<IMG_{mark}>" for mark in ("START", "GRID", "COL", "ROW", "END")]
    words = tokenizer("<image>", "<IMG_ATOM>", *marks)
    tower = {**VISION, "image_size": 2 * SIDE, "vocab_size": 32, "hidden_stride": 2}
    ids = {"image_token_id": id_of(words, "<IMG_ATOM>"), "visual_indicator_token_ids": [id_of(words, m) for m in marks]}
    text = text_config(words, model_type="qwen2")
    model = model_of(
        "ovis2", words, text_config=text, vision_config=tower, hidden_size=64, vocab_size=len(words), **ids
    )
    pictures = square(Ovis2ImageProcessor, 2 * SIDE)
    return model, Ovis2Processor(pictures, words, image_seq_length=4, chat_template=template(image="<image>\n"))


def cohere2_vision() -> Twin:
    """Command A Vision."""
    words = tokenizer(
        *HEADS, bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>", image_token="<|IMG_PATCH|>", img_line_break_token="<|IMG_LINE_BREAK|>",
    )  # fmt: skip
    ids = {"image_token_id": id_of(words, "<|IMG_PATCH|>"), "alignment_intermediate_size": 64}
    model = model_of("cohere2_vision", words, text_config=_cohere(words), vision_config=_tower56(), **ids)
    pictures = square(Cohere2VisionImageProcessor, 2 * SIDE, patch_size=2, max_patches=2)
    return model, Cohere2VisionProcessor(pictures, words, chat_template=_cohere_template("<|IMG_PATCH|>"))


def aya_vision() -> Twin:
    """Aya Vision."""
    marks = (
        "<|START_OF_IMG|>",
        "<|END_OF_IMG|>",
        "<|IMG_PATCH|>",
        "<|IMG_LINE_BREAK|>",
        "TILE_GLOBAL",
        "TILE_1",
        "TILE_2",
    )
    words = tokenizer(*HEADS, "<image>", *marks, bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>")
    ids = {"image_token_index": id_of(words, "<|IMG_PATCH|>"), "vision_feature_layer": -1}
    model = model_of("aya_vision", words, text_config=_cohere(words), vision_config=_tower56(), **ids)
    return model, AyaVisionProcessor(
        square(GotOcr2ImageProcessor, 2 * SIDE, max_patches=2, crop_to_patches=True),
        words,
        patch_size=PATCH,
        img_size=2 * SIDE,
        downsample_factor=2,
        chat_template=_cohere_template("<image>"),
    )


SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System"}
HEADS = ("<|START_OF_TURN_TOKEN|>",)


def _tower56() -> dict[str, Any]:
    return {**SIGLIP, "image_size": 2 * SIDE}


def _cohere(words: Any) -> dict[str, Any]:
    layers = ["sliding_attention", "full_attention"]
    return text_config(words, model_type="cohere2", layer_types=layers, sliding_window=64)


def _cohere_template(image: str) -> str:
    head = ("<|START_OF_TURN_TOKEN|>", "\n")
    return template(image=image, bos="<BOS_TOKEN>", head=head, end="<|END_OF_TURN_TOKEN|>")


def _speakers(image: str, video: str = "") -> str:
    roles = {"user": "USER", "assistant": "ASSISTANT", "system": "SYSTEM"}
    return template(image=image, video=video, head=("", ": "), end=" ", roles=roles)


def _llava(words: Any, tower: dict[str, Any], language: str = "llama") -> dict[str, Any]:
    return {
        "text_config": text_config(words, model_type=language),
        "vision_config": tower,
        "image_token_index": id_of(words, "<image>") if "<image>" in words.get_vocab() else 0,
        "vision_feature_select_strategy": "default",
    }


def _pixtral() -> dict[str, Any]:
    return {**VISION, "model_type": "pixtral", "image_size": 4 * SIDE, "head_dim": 16}


def _pixtral_processor(words: Any, merge: int) -> Any:
    side = PATCH * merge
    return PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 4 * PATCH}, patch_size={"height": side, "width": side}),
        words,
        patch_size=PATCH,
        spatial_merge_size=merge,
        chat_template=template(image="[IMG]", bos=BOS, head=("[INST]", ""), end="[/INST]"),
    )
