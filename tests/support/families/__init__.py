"""Tiny twins of families of vision-language models: random models of the real classes, with their real processors."""

from __future__ import annotations

import functools
from typing import Any

from mmrl.core.vision import VisionBudget, apply_budget
from tests.support.families import others, qwen, tiles

TWINS = {
    "Qwen2-VL": qwen.qwen2_vl,
    "Qwen2.5-VL": qwen.qwen2_5_vl,
    "Qwen3-VL": qwen.qwen3_vl,
    "Qwen3-VL-MoE": qwen.qwen3_vl_moe,
    "Qwen3.5": qwen.qwen3_5,
    "Qwen3.5-MoE": qwen.qwen3_5_moe,
    "EXAONE 4.5": qwen.exaone4_5,
    "LFM3-VL": qwen.lfm3_vl,
    "GLM-4V": qwen.glm4v,
    "GLM-4.6V": qwen.glm46v,
    "LLaVA 1.5": tiles.llava,
    "LLaVA-NeXT": tiles.llava_next,
    "LLaVA-NeXT-Video": tiles.llava_next_video,
    "LLaVA-OneVision": tiles.llava_onevision,
    "InternVL": tiles.internvl,
    "Idefics2": tiles.idefics2,
    "Idefics3": tiles.idefics3,
    "SmolVLM": tiles.smolvlm,
    "Llama 3.2 Vision": tiles.mllama,
    "Mistral Small 3.1": tiles.mistral3,
    "Pixtral": tiles.pixtral,
    "Ovis2": tiles.ovis2,
    "Command A Vision": tiles.cohere2_vision,
    "Aya Vision": tiles.aya_vision,
    "Gemma 3": others.gemma3,
    "PaliGemma": others.paligemma,
    "Gemma 4": others.gemma4,
    "LFM2-VL": others.lfm2_vl,
    "MiniCPM-V 4.6": others.minicpmv,
    "VideoLLaMA3": others.video_llama3,
    "Kimi K2.5": others.kimi,
}


NOTES = {  # what a user of the family should know
    "PaliGemma": "every prompt needs a picture",
    "LLaVA-OneVision": "videos of one length",
    "LLaVA-NeXT-Video": "videos of one length",
    "GLM-4V": "pictures and videos in batches apart",
    "GLM-4.6V": "pictures and videos in batches apart",
    "SmolVLM": "no prompt with both a picture and a video",
    "Kimi K2.5": "videos are refused: transformers 5.23 fails on them",
    "Llama 3.2 Vision": "as many pictures in every prompt",
}
PICTURES_ONLY = ("PaliGemma",)  # its processor refuses a prompt without a picture


@functools.cache
def twin_of(name: str) -> tuple[Any, Any]:
    """The model and the processor of a family; the same objects every time."""
    return TWINS[name]()


def twin(name: str, budget: VisionBudget) -> tuple[Any, Any]:
    """The twin of a family, its processor under `budget`."""
    model, processor = twin_of(name)
    apply_budget(processor, budget)
    return model, processor
