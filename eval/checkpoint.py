"""A checkpoint directory: what it must hold to be evaluated, its fingerprint, and the model in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from eval.records import digest
from mmrl.config import InputError

# What decides a model's answers; the state of an optimizer beside it does not.
_DECISIVE = ("*.safetensors", "*.model", "*.jinja", "*config.json", "*token*.json", "vocab.*", "merges.txt")


def fingerprint(path: Path) -> str:
    """The hash of the weights, configs, tokenizer and chat template in `path`: equal files, equal fingerprint."""
    files = sorted({file for pattern in _DECISIVE for file in path.glob(pattern)})
    return digest([[file.name, _sha256(file)] for file in files])


def load_checkpoint(path: Path) -> tuple[Any, Any]:
    """(model, processor) in `path`, on the accelerator if there is one; anything but a complete vision-language
    checkpoint is an InputError."""
    from transformers import AutoModelForImageTextToText

    architecture = check_architecture(path)
    processor = load_processor(path)
    model, info = AutoModelForImageTextToText.from_pretrained(
        path, dtype="auto", local_files_only=True, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    wrong = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    wrong += [f"{name} has shape {tuple(have)}, not {tuple(want)}" for name, have, want in info["mismatched_keys"]]
    if wrong:
        raise InputError(f"the weights in {path} are not those of {architecture}: {'; '.join(wrong[:3])} ({len(wrong)} in all)")
    return model.to(_device()).eval(), processor


def check_architecture(path: Path) -> str:
    """The model type of the checkpoint in `path`, if it is one that takes pictures and writes text."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if not (path / "config.json").is_file():
        raise InputError(f"no checkpoint at {path}: expected a directory with config.json, *.safetensors and a processor")
    if not list(path.glob("*.safetensors")):
        raise InputError(f"no *.safetensors in {path}; save the model with save_pretrained")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except ValueError as error:
        raise InputError(f"{path}/config.json: {error}") from None
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        known = "qwen2_5_vl, qwen3_vl, internvl, llava_onevision, smolvlm"
        raise InputError(f"{path} is a {config.model_type} checkpoint, not a vision-language model (such as {known})")
    return config.model_type


def load_processor(path: str | Path) -> Any:
    """The processor in `path`, padding on the left."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise InputError(f"no usable processor in {path}: {error}") from None
    if not hasattr(processor, "image_processor") or not getattr(processor, "tokenizer", None):
        raise InputError(
            f"no processor in {path}: expected preprocessor_config.json and the tokenizer's files beside the weights; "
            f"save them with processor.save_pretrained({str(path)!r})"
        )
    if not processor.chat_template:
        raise InputError(f"the processor in {path} has no chat template; expected chat_template.jinja")
    processor.tokenizer.padding_side = "left"
    return processor


def _device() -> Any:
    from accelerate import PartialState

    return PartialState().device


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
