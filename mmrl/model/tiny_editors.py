"""Tiny twins of pipelines that make pictures: real classes of diffusers with some hundred thousand random weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from mmrl.model.tiny_twins import TinySize, tiny_model

SPACE = "▁"  # how a T5 tokenizer writes the blank before a word
SPELT = -20.0  # the log-probability of a letter: less than that of any word
TEXT_TOKENS = 32  # of an instruction; published pipelines take 77 and 512


def tiny_kontext(
    texts: Iterable[str],
    *,
    width: int = 32,
    heads: int = 2,
    layers: int = 2,
    text_tokens: int = TEXT_TOKENS,
    light: int | None = None,
    seed: int = 0,
) -> Any:
    """A `FluxKontextPipeline` that edits pictures whose sides are multiples of 4 pixels. Its tokenizers are trained on
    `texts`, its VAE halves the sides: an `AutoencoderKL`, or an `AutoencoderTiny` with `light` channels of latents."""
    import diffusers

    library: Any = diffusers  # its classes are loaded by name
    texts = sorted(set(texts))
    clip, t5 = _clip_tokenizer(texts, text_tokens), _t5_tokenizer(texts, text_tokens)
    axis = 8  # rotary dimensions of each of the three axes
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip_config, t5_config = _clip_config(clip, width), T5Config(**_t5_sizes(t5, width))
        transformer = library.FluxTransformer2DModel(
            in_channels=4 * (light or 4), num_layers=layers, num_single_layers=1, attention_head_dim=3 * axis,
            num_attention_heads=heads, joint_attention_dim=width, pooled_projection_dim=width,
            axes_dims_rope=(axis, axis, axis), guidance_embeds=False,
        )  # fmt: skip
        vae = _light_vae(library, light) if light else _vae(library)
        pipeline = library.FluxKontextPipeline(
            scheduler=library.FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=vae,
            text_encoder=CLIPTextModel(clip_config),
            tokenizer=clip,
            text_encoder_2=T5EncoderModel(t5_config),
            tokenizer_2=t5,
            transformer=transformer,
        )
    return _ready(pipeline)


def tiny_stable_diffusion_3(
    texts: Iterable[str], *, width: int = 32, layers: int = 2, text_tokens: int = TEXT_TOKENS, seed: int = 0
) -> Any:
    """A `StableDiffusion3Pipeline` that makes pictures of texts, with sides of multiples of 4 pixels, at most 256. It
    has the second attention and the norms of Stable Diffusion 3.5."""
    import diffusers

    library: Any = diffusers
    texts = sorted(set(texts))
    clip, t5 = _clip_tokenizer(texts, text_tokens), _t5_tokenizer(texts, text_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip_config = _clip_config(clip, width, projection_dim=width)
        transformer = library.SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=layers,
            attention_head_dim=width // 2, num_attention_heads=2, joint_attention_dim=2 * width,
            caption_projection_dim=width, pooled_projection_dim=2 * width, pos_embed_max_size=64,
            dual_attention_layers=(0,), qk_norm="rms_norm",
        )  # fmt: skip
        pipeline = library.StableDiffusion3Pipeline(
            scheduler=library.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=_vae(library),
            text_encoder=CLIPTextModelWithProjection(clip_config),
            tokenizer=clip,
            text_encoder_2=CLIPTextModelWithProjection(clip_config),
            tokenizer_2=clip,
            text_encoder_3=T5EncoderModel(T5Config(**_t5_sizes(t5, 2 * width))),
            tokenizer_3=t5,
            transformer=transformer,
        )
    return _ready(pipeline)


def tiny_qwen_image_edit(texts: Iterable[str], *, width: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """A `QwenImageEditPipeline` that edits pictures whose sides are multiples of 4 pixels. Its tokenizer knows
    the words of the pipeline's template and makes as many tokens of it as the published one: the pipeline drops 64."""
    import diffusers

    library: Any = diffusers
    texts, template = sorted(set(texts)), library.QwenImageEditPipeline(*[None] * 6).prompt_template_encode
    size = TinySize(hidden=width, heads=2, mlp=2 * width, vision_layers=1, vocab=1024)
    encoder, processor = tiny_model("qwen2_5_vl", [*texts, *[template] * (len(texts) + 1)], size=size, seed=seed)
    tokenizer: Any = processor.tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = library.QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=layers, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=width, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        pipeline = library.QwenImageEditPipeline(
            scheduler=library.FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
            vae=library.AutoencoderKLQwenImage(
                base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
                latents_mean=[0.1, -0.2, 0.0, 0.3], latents_std=[0.5, 2.0, 1.0, 1.5],
            ),
            text_encoder=encoder,
            tokenizer=tokenizer,
            processor=processor,
            transformer=transformer,
        )  # fmt: skip
    return _ready(pipeline)


def tiny_wan(
    texts: Iterable[str], *, width: int = 32, layers: int = 2, text_tokens: int = TEXT_TOKENS, seed: int = 0
) -> Any:
    """A `WanPipeline` that makes videos of texts, with sides of multiples of 4 pixels and an odd number of frames."""
    import diffusers

    library: Any = diffusers
    tokenizer = _t5_tokenizer(sorted(set(texts)), text_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = library.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=width // 2, in_channels=4, out_channels=4, text_dim=width,
            freq_dim=width, ffn_dim=2 * width, num_layers=layers, rope_max_seq_len=64,
        )  # fmt: skip
        pipeline = library.WanPipeline(
            tokenizer=tokenizer,
            text_encoder=UMT5EncoderModel(UMT5Config(**_t5_sizes(tokenizer, width))),
            vae=library.AutoencoderKLWan(
                base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
                latents_mean=[0.1, -0.2, 0.0, 0.3], latents_std=[0.5, 2.0, 1.0, 1.5],
                scale_factor_temporal=2, scale_factor_spatial=2,
            ),
            scheduler=library.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
            transformer=transformer,
        )  # fmt: skip
    return _ready(pipeline)


TWINS: dict[str, Callable[..., Any]] = {  # of each class of pipelines
    "FluxKontextPipeline": tiny_kontext,
    "QwenImageEditPipeline": tiny_qwen_image_edit,
    "StableDiffusion3Pipeline": tiny_stable_diffusion_3,
    "WanPipeline": tiny_wan,
}


def _ready(pipeline: Any) -> Any:
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()  # T5 has dropout
    return pipeline


def _clip_config(tokenizer: CLIPTokenizer, width: int, **more: Any) -> CLIPTextConfig:
    ends: dict[str, Any] = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    return CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=tokenizer.model_max_length, num_hidden_layers=1,
        num_attention_heads=2, hidden_size=width, intermediate_size=2 * width, **ends, **more,
    )  # fmt: skip


def _t5_sizes(tokenizer: T5Tokenizer, width: int) -> dict[str, Any]:
    sizes = {"d_model": width, "d_kv": width // 2, "d_ff": 2 * width, "num_layers": 1, "num_heads": 2}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {"vocab_size": len(tokenizer), **sizes, **ends}


def _vae(library: Any) -> Any:
    return library.AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=16,
        scaling_factor=1.0, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _light_vae(library: Any, channels: int) -> Any:
    return library.AutoencoderTiny(
        encoder_block_out_channels=(24, 24), decoder_block_out_channels=(24, 24), num_encoder_blocks=(0, 1),
        num_decoder_blocks=(1, 1), latent_channels=channels,
    )  # fmt: skip


def _clip_tokenizer(texts: list[str], length: int) -> CLIPTokenizer:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, end_of_word_suffix="</w>")
    model = _trained(tokenizer, texts, trainer)
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=length)


def _t5_tokenizer(texts: list[str], length: int) -> T5Tokenizer:
    """The most common words are pieces, all others are spelt. A model trained on few texts would spell every word."""
    counts = Counter(word for text in texts for word in text.split())
    letters = sorted({letter for word in counts for letter in word} | {SPACE})
    words = [(SPACE + word, math.log(count / counts.total())) for word, count in counts.most_common(300)]
    special = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")]
    vocab = [*special, *words, *((letter, SPELT) for letter in letters)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


def _trained(tokenizer: Tokenizer, texts: list[str], trainer: Any) -> dict[str, Any]:
    def batches() -> Iterator[str]:
        yield from texts

    tokenizer.train_from_iterator(batches(), trainer)
    return json.loads(tokenizer.to_str())["model"]
