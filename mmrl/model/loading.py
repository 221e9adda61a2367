"""Checkpoint directories: checks of their contents, their fingerprint, and the model in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrl.core.canonical_json import digest
from mmrl.core.config import InputError
from mmrl.core.families import FAMILIES
from mmrl.core.files import sha256_of

# The files that decide a model's answers; the state of an optimizer next to them does not.
_DECISIVE = ("*.safetensors", "*config.json", "*token*", "*.model", "vocab.*", "merges.txt", "chat_template*")
OWN_CODE = "; code of a checkpoint is not run: look for its form without code, often with -hf in its name"
_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
INDEX = "model_index.json"  # in the directory of a pipeline of diffusers
SHIPPED = Path(__file__).parents[1] / "demo" / "checkpoint"


def is_pipeline(path: Path) -> bool:
    """Whether a directory holds a pipeline of diffusers."""
    return (path / INDEX).is_file()


def fingerprint(path: Path) -> str:
    """The hash of the weights, configs, tokenizer and chat template in `path`: equal files, equal fingerprint."""
    patterns = [INDEX, *(f"*/{pattern}" for pattern in _DECISIVE)] if is_pipeline(path) else _DECISIVE
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    return digest([[file.relative_to(path).as_posix(), sha256_of(file)] for file in files])


def local(model: str | Path) -> Path:
    """The directory of a checkpoint: `model` itself, the one of the demo, or where the hub's copy of that id is
    (downloaded if need be)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if Path(model).exists():
        return Path(model)
    if str(model) == "demo":
        return SHIPPED
    try:
        return Path(snapshot_download(str(model)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        cause = str(error).partition("\n")[0]
        wanted = "expected a directory with config.json, *.safetensors and a processor, or the id of a hub model"
        raise InputError(f"no checkpoint at {model}: {wanted} ({cause})") from None


def load_checkpoint(path: Path, *, dtype: str = "auto") -> tuple[Any, Any]:
    """(model, processor) in `path`, in main memory.

    Anything but a complete vision-language checkpoint is an InputError: transformers would initialise missing layers
    randomly, with a warning only.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    from mmrl.model.positions import as_pretrained

    as_pretrained()
    architecture = check_architecture(path)
    processor = load_processor(path)
    options: Any = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            path, **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise InputError(f"the weights in {path} are damaged ({error}); save or copy them again") from None
    model, info = loaded
    wrong = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    wrong += [f"{name} has shape {tuple(have)}, not {tuple(want)}" for name, have, want in info["mismatched_keys"]]
    if wrong:
        raise InputError(
            f"the weights in {path} are not those of {architecture}: {'; '.join(wrong[:3])} ({len(wrong)} in all)"
        )
    return model, processor


def skeleton(path: Path) -> Any:
    """The model in `path` without its weights, but with what its checkpoint says about how answers end."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(path, trust_remote_code=False))
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def check_architecture(path: Path) -> str:
    """The model type of the checkpoint in `path`; an InputError if it does not map pictures and text to text."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if not (path / "config.json").is_file():
        raise InputError(
            f"no checkpoint at {path}: expected a directory with config.json, *.safetensors and a processor"
        )
    if not list(path.glob("*.safetensors")):
        raise InputError(f"no *.safetensors in {path}; save the model with save_pretrained")
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        hint = "" if "auto_map" not in (path / "config.json").read_text(encoding="utf-8") else OWN_CODE
        raise InputError(f"{path}/config.json: {str(error).partition(chr(10))[0][:200]}{hint}") from None
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        known = ", ".join(name for family in FAMILIES.values() for name in family.model_types[:1])
        raise InputError(
            f"{path} is a {config.model_type} checkpoint, which transformers does not have among its models for images "
            f"and text to text (such as {known})"
        )
    if config.is_encoder_decoder:
        raise InputError(
            f"{path} is a {config.model_type} checkpoint, with an encoder for the text: only decoders train"
        )
    return config.model_type


def load_processor(path: str | Path) -> Any:
    """The processor in `path`, padding on the left."""
    from transformers import AutoProcessor

    wanted = f"expected its files and the tokenizer's next to the weights: processor.save_pretrained({str(path)!r})"
    if Path(path).is_dir() and not any(file for pattern in _TOKENIZERS for file in Path(path).glob(pattern)):
        raise InputError(f"no tokenizer in {path}; {wanted}")  # transformers would make up an empty one
    try:
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except ImportError as error:  # SmolVLM's needs num2words
        raise InputError(f"the processor in {path}: {str(error).partition(chr(10))[0]}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"no processor in {path}; {wanted} ({str(error).partition(chr(10))[0]})") from None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise InputError(f"no processor in {path}, only a {type(processor).__name__}; {wanted}")
    if not processor.chat_template:
        raise InputError(f"the processor in {path} has no chat template; expected chat_template.jinja")
    if processor.tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer in {path} has no end token: set eos_token in tokenizer_config.json")
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    processor.tokenizer.padding_side = "left"
    return processor
