"""What one passes to a trainer in Python, as the trainer needs it: a path for a model, any rows for a dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset

from data_engine.dataset.tables import SAMPLES
from data_engine.operator import Quarantined
from data_engine.schema import Sample, to_row, user_prompt, with_id
from data_engine.sources.row_format import Row, Rows, samples_of
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.loading import load_processor, local
from mmrl.model.policy import load_policy
from mmrl.tools.settings import ToolSettings
from mmrl.trainers.dataset import as_dataset, decoded, training_samples
from mmrl.trainers.preferences import as_pairs
from rewards import Suite
from rewards.functions import PLAIN
from rewards.tasks.table import TASKS

BUILT = {"id", "source", "task", "prompt", "answer", "media", "meta"}  # the columns of `mmrl data build`
GOLD = ("answer", "solution", "ground_truth", "label")  # columns that hold the right answer, the first that is there
MEDIA = {"image": "image", "images": "image", "video": "video", "videos": "video"}  # a column: its kind of media
CHAT = {"role", "content"}  # the keys of a message
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def policy(model: Any, processor: Any, budget: VisionBudget) -> tuple[Any, Any]:
    """(model, processor) of a path or hub id, or of a model that is loaded; the processor keeps to the budget."""
    if isinstance(model, str | Path):
        loaded, own = load_policy(model, budget)
        if processor is not None:
            apply_budget(processor, budget)
        return loaded, processor or own
    if processor is None:
        place = str(getattr(model.config, "_name_or_path", ""))
        if not place:
            raise InputError("a model that is not loaded from a path needs its processor: give processing_class")
        processor = load_processor(local(place))
        apply_budget(processor, budget)
    return model, processor


def suite(rewards: Any, reward_funcs: Any, args: Any) -> Suite:
    """The suite of `rewards`, or of `reward_funcs` with TRL's `reward_weights`."""
    if (rewards is None) == (reward_funcs is None):
        raise InputError("give the rewards, once: as reward_funcs (TRL's name) or as rewards")
    chosen = reward_funcs if rewards is None else rewards
    if isinstance(chosen, Suite):
        return chosen
    weights, args.reward_weights = args.reward_weights, None
    return Suite.of(chosen, weights=weights)


def tools(given: Any, others: Mapping[str, Any]) -> ToolSettings | None:
    """Settings of tools, from a list of names, functions or classes as TRL takes them.

    `others` are further arguments of a trainer, of which those are refused that would draw completions in another way.
    """
    for name in ("rollout_func", "environment_factory"):
        if others.get(name) is not None:
            raise InputError(f"{name} draws completions by itself; give tools: names, functions or classes of a module")
    if not given or isinstance(given, ToolSettings):
        return given or None
    return ToolSettings(tools=[one if isinstance(one, str) else _named(one) for one in given])


def _named(function: Any) -> str:
    """The "module:function" of a function or class."""
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", repr(function))
    if module == "__main__" or "<" in name:
        raise InputError(
            f"the tool {name!r:.80} runs in a process of its own: put it into a module that can be imported"
        )
    return f"{module}:{name}"


def rows(data: Any, split: str | None = "train") -> Dataset:
    """The rows of a trainer (`mmrl.trainers.dataset.as_dataset`) from a folder that `mmrl data build` wrote, a list of
    samples, a loaded dataset of such a folder, or one with the columns of TRL.

    TRL's are `prompt` (messages or a text), `image`, `images`, `video` or `videos`, and the right answer in `answer` or
    `solution`. A `task` says what the answer is; without one it is a text. All columns reach the rewards.
    """
    if isinstance(data, str | Path):
        return as_dataset(training_samples(data, split))
    if isinstance(data, list) and data and isinstance(data[0], Sample):
        return as_dataset(data)
    if isinstance(data, Mapping):
        raise InputError(f"a dataset with the splits {', '.join(map(str, data))}: give one of them")
    if not isinstance(data, Dataset):
        raise InputError(
            f"the data are a {type(data).__name__}; give a datasets.Dataset, a folder, or a list of samples"
        )
    if set(data.column_names) >= BUILT:
        return data if data.format["type"] == "custom" else _built(data)
    if not {"prompt", "question", "problem"}.intersection(data.column_names):
        raise InputError(f"the data have no column prompt; they have {', '.join(data.column_names)}")
    plain = _undecoded(data)
    features = datasets.Features.from_arrow_schema(SAMPLES)
    made = plain.map(_row, with_indices=True, remove_columns=plain.column_names, features=features, desc="reading rows")
    return made.with_transform(decoded)


def pairs(data: Any, split: str | None = "train") -> Dataset:
    """The pairs of a preference trainer (`mmrl.trainers.preferences.as_pairs`) from a folder that `mmrl data build`
    wrote, a list of samples, or a dataset of pairs already."""
    if isinstance(data, str | Path):
        return as_dataset(as_pairs(training_samples(data, split)))
    if isinstance(data, list) and data and isinstance(data[0], Sample):
        return as_dataset(as_pairs(data))
    if not isinstance(data, Dataset) or not set(data.column_names) >= BUILT:
        raise InputError(f"the data are a {type(data).__name__}; give a folder or a list of samples")
    return data


def _built(data: Dataset) -> Dataset:
    """A dataset of ours that `load_dataset` read: rows are text yet, and paths may be relative to a folder."""
    first = next((media["path"] for row in data["media"] for media in row or () if media["path"]), None)
    if first is not None and not Path(first).is_absolute() and not Path(first).exists():
        raise InputError(f"the media of these rows lie in the dataset's folder ({first}); give that folder as the data")
    return data.with_transform(decoded)


def _undecoded(data: Dataset) -> Dataset:
    """`data` whose images and videos are bytes or paths."""
    for name in MEDIA:
        feature: Any = data.features.get(name)
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.Image | datasets.Video):
            raw = type(inner)(decode=False)
            data = data.cast_column(name, raw if inner is feature else datasets.List(raw))
    return data.with_format(None)


def _row(values: dict[str, Any], number: int) -> dict[str, Any]:
    try:
        return to_row(_sample(values, number))
    except ValueError as error:
        raise InputError(f"row {number} of the data: {error}") from None


def _sample(values: dict[str, Any], number: int) -> Sample:
    """One row with TRL's columns, or with those of the source `jsonl`, as a sample with probed media."""
    text = values.get("prompt") or values.get("question") or values.get("problem")
    gold = next((values[name] for name in GOLD if values.get(name) is not None), None)
    if isinstance(gold, str) and (tagged := TAGGED.findall(gold)):
        gold = tagged[-1].strip()
    meta = {name: value for name, value in values.items() if name not in (*MEDIA, "prompt", "task", "meta")}
    task = values.get("task")
    if task in TASKS:
        sample = _read({**values, "prompt": text, "answer": gold}, number)
    else:
        media = tuple(_media(values))
        kind, answer = _plain(gold)
        sample = Sample("", "rows", str(task or kind), _messages(text, [item.kind for item in media]), answer, media)
    media = tuple(probe(item, validate=item.kind == "video") for item in sample.media)  # frames are counted by decoding
    meta |= {**sample.meta, **({PLAIN: True} if isinstance(text, str) else {})}
    return with_id(replace(sample, media=media, meta=meta))


def _plain(gold: Any) -> tuple[str, dict[str, Any]]:
    """(task, answer) of a gold whose task is not named: a text, a number, or what is a mapping already."""
    if isinstance(gold, str):
        return "text", {"text": [gold]}
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        return "number", {"number": float(gold)}
    return "open", dict(gold) if isinstance(gold, Mapping) else {}


def _read(values: Mapping[str, Any], number: int) -> Sample:
    """A row whose task is named, by the rules of the source `jsonl`: the answer gets the keys of its task."""
    named = {name: value for name, value in values.items() if value is not None and name != "meta"}
    [sample] = samples_of([Row(f"row {number}", named)], Rows(), Path.cwd(), "rows")
    if isinstance(sample, Quarantined):
        raise InputError(f"{sample.reason}: {sample.why}")
    return sample


def _media(values: Mapping[str, Any]) -> Iterator[Media]:
    for name, kind in MEDIA.items():
        given = values.get(name)
        for item in given if isinstance(given, list) else [] if given is None else [given]:
            content, path = (item.get("bytes"), item.get("path")) if isinstance(item, Mapping) else (None, item)
            if content is None and not isinstance(path, str):
                raise InputError(f"{name} holds pictures, bytes or paths, got {item!r:.80}")
            yield Media(kind, bytes=content) if content is not None else Media(kind, path=path)  # pyright: ignore[reportArgumentType]


def _messages(prompt: Any, kinds: list[Any]) -> list[dict[str, Any]]:
    """The chat messages of a prompt; media that no part of it stands for go before the first text of the user."""
    if isinstance(prompt, str):
        return user_prompt(prompt, kinds)
    if not isinstance(prompt, list) or not all(isinstance(each, Mapping) and each.keys() >= CHAT for each in prompt):
        raise InputError(f"a prompt is a text or a list of messages {{role, content}}, got {prompt!r:.80}")
    messages = [{"role": message["role"], "content": _parts(message["content"])} for message in prompt]
    marked = [part["type"] for message in messages for part in message["content"] if part["type"] != "text"]
    if not marked and kinds:
        user = next((message for message in messages if message["role"] == "user"), messages[0])
        user["content"] = [*({"type": kind} for kind in kinds), *user["content"]]
    elif marked != kinds:
        raise InputError(f"the prompt marks {marked} and the row has {kinds}")
    return messages


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{name: value for name, value in part.items() if value is not None} for part in content]
