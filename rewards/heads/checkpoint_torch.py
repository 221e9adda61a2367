"""Checkpoints of Hugging Face models that score, loaded once a process, and rollouts as their inputs."""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from PIL import Image
from safetensors import SafetensorError

from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.pictures import pictures_of
from mmrl.core.messages import parts_of, texts_of
from rewards.base import Rollout
from rewards.heads.scoring_classes_torch import scoring_class, token_scores_class

Kind = Literal["score", "tokens", "language", "embedding", "matching", "backbone"]

FRAMES = 8  # of a video, shown as pictures
BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # inputs with a value for each token


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its tokenizer, and its processor if it sees pictures. `decided`: what its first
    rows have shown."""

    name: str
    model: Any
    tokenizer: Any
    processor: Any = None
    decided: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    @property
    def room(self) -> float:
        """How many tokens the model takes."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or float("inf")


@functools.lru_cache(maxsize=8)
def loaded(kind: Kind, name: str, device: str = "auto", dtype: str = "float32") -> Checkpoint:
    """The checkpoint at a path or of a hub id; code that comes with it is never run."""
    if name.count("/") > 1 and not Path(name).is_dir():  # no hub id has two
        raise InputError(f"no checkpoint at {name}; give a directory or a hub id")
    options: dict[str, Any] = {"dtype": dtype_of(dtype), "trust_remote_code": False, "use_safetensors": True}
    options["ignore_mismatched_sizes"] = True  # they are looked for below
    try:
        model, info = _class_of(kind, name).from_pretrained(name, output_loading_info=True, **options)
        missing = sorted(info["missing_keys"])
        if missing:  # a head that starts at random gives random rewards
            raise InputError(f"checkpoint {name}: it has no weights for {', '.join(missing[:3])}")
        if other := sorted(key for key, *_ in info["mismatched_keys"]):
            raise InputError(f"checkpoint {name}: its config asks for other sizes of {', '.join(other[:3])}")
        tokenizer, processor = readers(name)
        _check_readers(kind, name, tokenizer, processor)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"no {kind} model at {name}: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    return Checkpoint(name, model.to(place_of(device)).eval(), tokenizer, processor)


def _check_readers(kind: Kind, name: str, tokenizer: Any, processor: Any) -> None:
    """Refuse what transformers takes and what reads nothing: a tokenizer without words, pictures without a place."""
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise InputError(f"checkpoint {name}: its tokenizer knows no words; is tokenizer.json there?")
    if kind in ("score", "tokens", "language") and processor is not None and not processor.chat_template:
        raise InputError(f"checkpoint {name}: it has no chat template, which says where pictures stand")


def _class_of(kind: Kind, name: str) -> Any:
    if kind == "backbone":  # under the head that it was saved with: weights are named by the class that saved them
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        scores = any(saved.endswith("ForSequenceClassification") for saved in config.architectures or ())
        kind = "tokens" if getattr(config, "scores", None) else "score" if scores else "embedding"
    if kind == "score":
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        known = type(config) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        return transformers.AutoModelForSequenceClassification if known else scoring_class(config)
    if kind == "tokens":
        return token_scores_class(type(transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)))
    if kind == "matching":
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        if config.model_type != "blip":
            raise InputError(f"{name} is a {config.model_type} model; transport wants BLIP with a matching head")
        return transformers.BlipForImageTextRetrieval
    if kind == "language":
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        sees = type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        return transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    return transformers.AutoModel


def readers(name: str) -> tuple[Any, Any]:
    """The tokenizer of a checkpoint, and its processor or None."""
    processor: Any = transformers.AutoProcessor.from_pretrained(name, trust_remote_code=False)
    if hasattr(processor, "image_processor"):
        return processor.tokenizer, processor
    return transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False), None


def dtype_of(name: str) -> torch.dtype:
    """The floating dtype of a name."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"unknown dtype {name!r}; known: {', '.join(known)}")
    return known[name]


def place_of(device: str) -> torch.device:
    """The device of a name; `auto` is a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device {device!r}; such as auto, cpu, cuda, cuda:1") from None


def plain(text: str, tokenizer: Any) -> str:
    """`text` with every special token of the tokenizer made a blank, so that a completion cannot open a turn."""
    tokens = [
        *tokenizer.all_special_tokens,
        *(str(one) for one in tokenizer.added_tokens_decoder.values() if one.special),
    ]
    return re.sub("|".join(map(re.escape, sorted(set(tokens), key=len, reverse=True))), " ", text) if tokens else text


def chat(rollout: Rollout, tokenizer: Any, pictures: Sequence[list[Image.Image]] | None = None) -> list[dict[str, Any]]:
    """The prompt as chat messages: its text alone, or with the pictures of each media item where its part stands."""
    prompt = rollout.prompt
    messages = [*prompt] if prompt and not isinstance(prompt, str) else [{"role": "user", "content": prompt or ""}]
    if pictures is None:
        return [
            {"role": one["role"], "content": plain("".join(texts_of(one["content"])), tokenizer)} for one in messages
        ]
    left = list(pictures)
    shown = [{"role": one["role"], "content": _parts(one["content"], tokenizer, left)} for one in messages]
    if left:  # the prompt does not say where they stand
        asked = next((one for one in shown if one["role"] == "user"), shown[0])
        asked["content"][:0] = [{"type": "image", "image": one} for item in left for one in item]
    return shown


def question_of(rollout: Rollout) -> Hashable:
    """What the answers to one question have in common: its prompt is encoded once for all of them."""
    return dumps(rollout.prompt), rollout.all_media


def pictures_by_media(rollout: Rollout) -> list[list[Image.Image]]:
    """The pictures of each media item of a rollout, then what was made, a video as frames; MediaError if one cannot be
    read."""
    pictures = []
    for number, item in enumerate(rollout.all_media, 1):
        try:
            pictures.append(pictures_of(item, FRAMES))
        except MediaError as error:
            raise MediaError(error.reason, f"{item.kind} {number}: {error}") from None
    return pictures


def _parts(content: Any, tokenizer: Any, left: list[list[Image.Image]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in parts_of(content):
        if part["type"] == "text":
            parts.append({"type": "text", "text": plain(part["text"], tokenizer)})
            continue
        parts += [{"type": "image", "image": picture} for picture in (left.pop(0) if left else [])]
    return parts
