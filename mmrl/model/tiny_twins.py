"""Tiny twins of real vision-language architectures: the real code with a few hundred thousand random weights.

They are used by the tests, by `mmrl train --smoke` and, a little larger and trained, by the demo. The tokenizer is a
byte-level BPE trained on given texts; special tokens, chat template and processor are as in the published models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from mmrl.model.positions import as_pretrained

QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
IDEFICS_TOKENS = ("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>")
IDEFICS_TOKENS += ("<global-img>", *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)))
TAGS = ("<think>", "</think>", "<answer>", "</answer>")  # one token each, but ordinary text when decoding

QWEN_TEMPLATE = """{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}
{%- if message['content'] is string %}{{ message['content'] }}
{%- else %}{%- for part in message['content'] %}
{%- if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part['type'] == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else %}{{ part['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{ '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"""

IDEFICS_TEMPLATE = """<|im_start|>{%- for message in messages %}{{ message['role'] | capitalize + ':' }}
{%- if message['content'] is string %}{{ ' ' + message['content'] }}
{%- else %}{%- for part in message['content'] %}
{%- if part['type'] == 'image' %}{{ '<image>' }}{%- else %}{{ ' ' + part['text'] }}{%- endif %}
{%- endfor %}{%- endif %}{{ '<end_of_utterance>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{%- endif %}"""


@dataclass(frozen=True, slots=True)
class TinySize:
    """The size of a tiny model; patches are `patch` pixels wide and merged `merge` by `merge` into one token."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    mlp: int = 128
    vision_hidden: int = 32
    vision_layers: int = 2
    vision_heads: int = 2
    patch: int = 14
    merge: int = 2
    vocab: int = 512


def tiny_model(
    architecture: str, texts: Iterable[str], *, size: TinySize | None = None, seed: int = 0
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A random model of `architecture` (a key of ARCHITECTURES) and its processor; its tokenizer learns `texts`."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"no tiny twin of {architecture!r}; known: {', '.join(sorted(ARCHITECTURES))}")
    as_pretrained()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = ARCHITECTURES[architecture](list(texts), size or TinySize())
    return model.eval(), processor


def trained_tokenizer(
    texts: Iterable[str], special: tuple[str, ...], *, vocab: int, eos: str
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `texts`; up to three digits can become one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,3}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(TAGS), special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token="<|endoftext|>",
        padding_side="left",
        additional_special_tokens=[token for token in special if token not in (eos, "<|endoftext|>")],
        model_max_length=4096,
    )


def _qwen2_5_vl(texts: list[str], size: TinySize) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = trained_tokenizer(texts, QWEN_TOKENS, vocab=size.vocab, eos="<|im_end|>")
    vision = _qwen_vision(size) | {
        "tokens_per_second": 2,
        "window_size": 4 * size.patch * size.merge,
        "fullatt_block_indexes": [size.vision_layers - 1],
    }
    config = Qwen2_5_VLConfig(
        text_config=_text_config(tokenizer, size),
        vision_config=vision,
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    processor = _qwen_processor(tokenizer, size, Qwen2_5_VLProcessor, Qwen2VLVideoProcessor)
    return _finished(Qwen2_5_VLForConditionalGeneration(config), tokenizer), processor


def _qwen3_vl(texts: list[str], size: TinySize) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = trained_tokenizer(texts, QWEN_TOKENS, vocab=size.vocab, eos="<|im_end|>")
    vision = _qwen_vision(size) | {"num_position_embeddings": 64, "deepstack_visual_indexes": [size.vision_layers - 1]}
    text: dict[str, Any] = _text_config(tokenizer, size) | {"head_dim": size.hidden // size.heads}
    text["rope_parameters"]["mrope_interleaved"] = True
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_qwen_ids(tokenizer))
    processor = _qwen_processor(tokenizer, size, Qwen3VLProcessor, Qwen3VLVideoProcessor)
    return _finished(Qwen3VLForConditionalGeneration(config), tokenizer), processor


def _qwen_processor(
    tokenizer: PreTrainedTokenizerFast, size: TinySize, processor: Any, video_processor: Any
) -> ProcessorMixin:
    patches: dict[str, Any] = {"patch_size": size.patch, "merge_size": size.merge, "temporal_patch_size": 2}
    return processor(
        image_processor=Qwen2VLImageProcessor(**patches),
        tokenizer=tokenizer,
        video_processor=video_processor(**patches),
        chat_template=QWEN_TEMPLATE,
    )


def _qwen_vision(size: TinySize) -> dict[str, Any]:
    return {
        "depth": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": 2 * size.vision_hidden,
        "num_heads": size.vision_heads,
        "out_hidden_size": size.hidden,
        "patch_size": size.patch,
        "spatial_merge_size": size.merge,
        "temporal_patch_size": 2,
    }


def _idefics3(texts: list[str], size: TinySize) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = trained_tokenizer(texts, IDEFICS_TOKENS, vocab=size.vocab, eos="<end_of_utterance>")
    side = 4 * size.patch
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 2 * side}, max_image_size={"longest_edge": side}, do_image_splitting=False
        ),
        tokenizer=tokenizer,
        image_seq_len=(side // size.patch) ** 2 // size.merge**2,
        chat_template=IDEFICS_TEMPLATE,
    )
    text = _text_config(tokenizer, size) | {
        "model_type": "llama",
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }
    config = Idefics3Config(
        image_token_id=_id(tokenizer, "<image>"),
        tie_word_embeddings=True,
        scale_factor=size.merge,
        text_config=text,
        vision_config={
            "hidden_size": size.vision_hidden,
            "intermediate_size": 2 * size.vision_hidden,
            "num_hidden_layers": size.vision_layers,
            "num_attention_heads": size.vision_heads,
            "image_size": side,
            "patch_size": size.patch,
        },
    )
    return _finished(Idefics3ForConditionalGeneration(config), tokenizer), processor


ARCHITECTURES = {"qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "idefics3": _idefics3}


def _text_config(tokenizer: PreTrainedTokenizerFast, size: TinySize) -> dict[str, Any]:
    half = size.hidden // size.heads // 2
    section = [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8]  # time, height, width: sums to half the head
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": section},
    }


def _qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": _id(tokenizer, "<|image_pad|>"),
        "video_token_id": _id(tokenizer, "<|video_pad|>"),
        "vision_start_token_id": _id(tokenizer, "<|vision_start|>"),
        "vision_end_token_id": _id(tokenizer, "<|vision_end|>"),
    }


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))  # pyright: ignore[reportArgumentType]


def _finished(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    generation: Any = model.generation_config
    generation.eos_token_id = tokenizer.eos_token_id
    generation.pad_token_id = tokenizer.pad_token_id
    return model
