"""Tiny twins of the other families: Gemma's, LFM2-VL, MiniCPM-V, VideoLLaMA3, Kimi."""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    Kimi_K25ImageProcessor,
    Kimi_K25Processor,
    Kimi_K25VideoProcessor,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
    PaliGemmaProcessor,
    SiglipImageProcessor,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from mmrl.model.tiny_twins import QWEN_TEMPLATE, QWEN_TOKENS
from tests.support.families.parts import PATCH, VISION, id_of, model_of, square, template, text_config, tokenizer
from tests.support.families.qwen import LINEAR
from tests.support.families.tiles import SIDE, SIGLIP

Twin = tuple[Any, Any]
BOS = "<bos>"
WINDOWS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
TURNS = {"user": "user", "assistant": "model", "system": "system"}


def gemma3() -> Twin:
    """Gemma 3: the tokens of a picture attend to each other both ways; windows."""
    words = tokenizer(
        "<start_of_turn>", "<end_of_turn>", eos="<eos>", bos=BOS, boi_token="<start_of_image>",
        eoi_token="<end_of_image>", image_token="<image_soft_token>",
    )  # fmt: skip
    tokens = {"boi": "<start_of_image>", "eoi": "<end_of_image>", "image": "<image_soft_token>"}
    ids = {f"{name}_token_index": id_of(words, token) for name, token in tokens.items()}
    tower = {**SIGLIP, "image_size": 2 * SIDE}
    text = text_config(words, **WINDOWS, query_pre_attn_scalar=16)
    model = model_of(
        "gemma3", words, stops=("<end_of_turn>",), text_config=text, vision_config=tower, mm_tokens_per_image=4, **ids
    )
    written = template(
        image="<start_of_image>", bos=BOS, head=("<start_of_turn>", "\n"), end="<end_of_turn>\n", roles=TURNS
    )
    pictures = square(Gemma3ImageProcessor, 2 * SIDE)
    return model, Gemma3Processor(pictures, words, image_seq_length=4, chat_template=written)


def paligemma() -> Twin:
    """PaliGemma: the whole prompt attends both ways."""
    words = tokenizer("<image>", eos="<eos>", bos=BOS)
    pictures = square(SiglipImageProcessor, SIDE)
    pictures.image_seq_length = 4
    processor = PaliGemmaProcessor(pictures, words, chat_template=template(image="<image>", head=("", "\n"), end="\n"))
    text = text_config(words, model_type="gemma")
    model = model_of(
        "paligemma", words, text_config=text, vision_config={**SIGLIP, "projection_dim": 64}, projection_dim=64,
        hidden_size=64, vocab_size=len(words), image_token_index=id_of(words, "<image>"),
    )  # fmt: skip
    return model, processor


def gemma4() -> Twin:
    """Gemma 4: pictures attend both ways in layers with a window; pictures of any shape, videos."""
    words = tokenizer(
        "<|turn>", "<turn|>", "<|video|>", eos="<eos>", bos=BOS, image_token="<|image|>", boi_token="<|image>",
        eoi_token="<image|>", audio_token="<|audio|>", boa_token="<|audio>", eoa_token="<audio|>",
    )  # fmt: skip
    tower = {
        **VISION, "patch_size": 8, "num_key_value_heads": 2, "head_dim": 16, "pooling_kernel_size": 3,
        "position_embedding_size": 256,
    }  # fmt: skip
    text = text_config(
        words, **WINDOWS, use_bidirectional_attention="vision", hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(words), global_head_dim=16,
    )  # fmt: skip
    names = {"image": "<|image|>", "video": "<|video|>", "boi": "<|image>", "eoi": "<image|>", "audio": "<|audio|>"}
    ids = {f"{name}_token_id": id_of(words, token) for name, token in names.items()}
    ids |= {"boa_token_id": id_of(words, "<|audio>"), "eoa_token_index": id_of(words, "<audio|>")}
    model = model_of(
        "gemma4",
        words,
        stops=("<turn|>",),
        text_config=text,
        vision_config=tower,
        audio_config=None,
        **ids,
    )
    written = template(
        image="<|image|>", video="<|video|>", bos=BOS, head=("<|turn>", "\n"), end="<turn|>\n", roles=TURNS
    )
    return model, Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(patch_size=8, max_soft_tokens=70),
        words,
        Gemma4VideoProcessor(patch_size=8, max_soft_tokens=70),
        image_seq_length=70,
        chat_template=written,
    )


def lfm2_vl() -> Twin:
    """LFM2-VL: a language model with convolutions."""
    words = tokenizer("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", bos="<|startoftext|>")
    tower = {**VISION, "model_type": "siglip2_vision_model", "num_patches": 16, "vision_use_head": False}
    text = text_config(words, model_type="lfm2", layer_types=["conv", "full_attention"], block_multiple_of=16)
    ids = {"image_token_id": id_of(words, "<image>"), "projector_hidden_size": 64}
    model = model_of("lfm2_vl", words, text_config=text, vision_config=tower, **ids)
    pictures = Lfm2VlImageProcessor(
        do_image_splitting=False, min_image_tokens=1, max_image_tokens=4, encoder_patch_size=PATCH,
        tile_size=4 * PATCH, size={"height": 4 * PATCH, "width": 4 * PATCH},
    )  # fmt: skip
    return model, Lfm2VlProcessor(pictures, words, chat_template=template(image="<image>", bos="<|startoftext|>"))


def minicpmv() -> Twin:
    """MiniCPM-V 4.6: pictures cut into slices."""
    words = tokenizer(
        image_token="<|image_pad|>", video_token="<|video_pad|>", image_start_token="<image>",
        image_end_token="</image>", slice_start_token="<slice>", slice_end_token="</slice>",
        image_id_start_token="<image_id>", image_id_end_token="</image_id>",
    )  # fmt: skip
    tower = {**VISION, "image_size": 8 * PATCH, "insert_layer_id": 0}
    text = text_config(words, **LINEAR, model_type="qwen3_5_text")
    ids = {"image_token_id": id_of(words, "<|image_pad|>"), "video_token_id": id_of(words, "<|video_pad|>")}
    model = model_of(
        "minicpmv4_6", words, text_config=text, vision_config=tower, insert_layer_id=0, image_size=8 * PATCH, **ids
    )
    cut: dict[str, Any] = {"max_slice_nums": 2, "scale_resolution": 4 * PATCH, "patch_size": PATCH}
    return model, MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessor(**cut),
        MiniCPMV4_6VideoProcessor(**cut),
        words,
        chat_template=template(image="<|image_pad|>", video="<|video_pad|>"),
    )


def video_llama3() -> Twin:
    """VideoLLaMA3: patches that do not change from frame to frame are left out."""
    words = tokenizer(*QWEN_TOKENS)
    ids = {"image_token_id": id_of(words, "<|image_pad|>"), "video_token_id": id_of(words, "<|video_pad|>")}
    text = text_config(words, model_type="qwen2")
    model = model_of("video_llama_3", words, text_config=text, vision_config=VISION, **ids)
    return model, VideoLlama3Processor(
        VideoLlama3ImageProcessor(patch_size=PATCH, size={"shortest_edge": 784, "longest_edge": 3136}),
        words,
        VideoLlama3VideoProcessor(patch_size=PATCH, size={"shortest_edge": 784, "longest_edge": 3136}),
        chat_template=QWEN_TEMPLATE,
    )


def kimi() -> Twin:
    """Kimi K2.5: a language model with latent attention and experts."""
    marks = ("<|media_begin|>", "<|media_content|>", "<|media_end|>")
    words = tokenizer("<|media_pad|>", "<|kimi_k25_video_placeholder|>", *marks)
    latent = {
        "model_type": "deepseek_v3", "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "qk_nope_head_dim": 8, "n_group": 1, "topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1,
    }  # fmt: skip
    text = text_config(words, **latent, num_key_value_heads=4)
    text.pop("head_dim")
    tower = {**VISION, "pos_emb_height": 8, "pos_emb_width": 8, "pos_emb_time": 4}
    ids = {"image_token_id": id_of(words, "<|media_pad|>"), "projection_hidden_size": 32}
    ids |= {"video_token_id": id_of(words, "<|kimi_k25_video_placeholder|>")}
    ids |= {"vision_start_token_id": id_of(words, marks[0]), "vision_end_token_id": id_of(words, marks[2])}
    model = model_of("kimi_k25", words, text_config=text, vision_config=tower, **ids)
    sizes: dict[str, Any] = {"patch_size": PATCH, "max_patches": 16}
    return model, Kimi_K25Processor(
        Kimi_K25ImageProcessor(**sizes),
        words,
        Kimi_K25VideoProcessor(**sizes),
        chat_template=template(
            image="<|media_begin|>image<|media_content|><|media_pad|><|media_end|>",
            video="<|kimi_k25_video_placeholder|>",
        ),
    )
