"""Tiny twins of pipelines that make pictures: real classes of diffusers with some hundred thousand random weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

TEXT_TOKENS = 32  # of an instruction; published pipelines take 77 and 512


def tiny_kontext(texts: Iterable[str], *, width: int = 32, heads: int = 2, layers: int = 2, seed: int = 0) -> Any:
    """A `FluxKontextPipeline` that edits pictures whose sides are multiples of 4 pixels. Its tokenizers are trained on
    `texts`, its VAE halves the sides."""
    import diffusers

    library: Any = diffusers  # its classes are loaded by name
    texts = sorted(set(texts))
    clip, t5 = _clip_tokenizer(texts), _t5_tokenizer(texts)
    axis = 8  # rotary dimensions of each of the three axes
    size: dict[str, Any] = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": width,
        "intermediate_size": 2 * width,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ends: dict[str, Any] = {
            "bos_token_id": clip.bos_token_id,
            "eos_token_id": clip.eos_token_id,
            "pad_token_id": clip.pad_token_id,
        }
        t5_ends: dict[str, Any] = {"pad_token_id": t5.pad_token_id, "eos_token_id": t5.eos_token_id}
        clip_config = CLIPTextConfig(vocab_size=len(clip), max_position_embeddings=TEXT_TOKENS, **size, **ends)
        t5_config = T5Config(
            vocab_size=len(t5), d_model=width, d_kv=width // 2, d_ff=2 * width, num_layers=1, num_heads=2,
            **t5_ends,
        )  # fmt: skip
        transformer = library.FluxTransformer2DModel(
            in_channels=16, num_layers=layers, num_single_layers=1, attention_head_dim=3 * axis,
            num_attention_heads=heads, joint_attention_dim=width, pooled_projection_dim=width,
            axes_dims_rope=(axis, axis, axis), guidance_embeds=False,
        )  # fmt: skip
        vae = library.AutoencoderKL(
            block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=16,
            scaling_factor=1.0, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
        pipeline = library.FluxKontextPipeline(
            scheduler=library.FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=vae,
            text_encoder=CLIPTextModel(clip_config),
            tokenizer=clip,
            text_encoder_2=T5EncoderModel(t5_config),
            tokenizer_2=t5,
            transformer=transformer,
        )
    for part in ("vae", "text_encoder", "text_encoder_2", "transformer"):
        getattr(pipeline, part).eval()  # T5 has dropout
    return pipeline


def _clip_tokenizer(texts: list[str]) -> CLIPTokenizer:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, end_of_word_suffix="</w>")
    model = _trained(tokenizer, texts, trainer)
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=TEXT_TOKENS)


def _t5_tokenizer(texts: list[str]) -> T5Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    model = _trained(tokenizer, texts, trainer)
    vocab = [(piece, score) for piece, score in model["vocab"]]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=TEXT_TOKENS)


def _trained(tokenizer: Tokenizer, texts: list[str], trainer: Any) -> dict[str, Any]:
    def batches() -> Iterator[str]:
        yield from texts

    tokenizer.train_from_iterator(batches(), trainer)
    return json.loads(tokenizer.to_str())["model"]
