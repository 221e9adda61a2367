"""The card of a trained model: its base, its data, its rewards, its scores, and how to ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from mmrl.core.files import sha256_of
from mmrl.model.flow.pictures import FRAMES, SIDE
from mmrl.model.loading import local
from mmrl.train.config import FOLDERS, TrainConfig, TrainingSplit, makes_pictures
from mmrl.train.samples import split_of
from rewards.tasks.table import task_type

WINDOW = 20  # logged steps of which the card gives the mean
VERSIONED = ("mmrl-stack", "trl", "transformers", "torch")
METHODS = {
    "reward": "learning from preferences (a reward model)",
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimisation (DPO)",
    "grpo": "reinforcement learning (GRPO)",
    "latent": "latent reasoning before a model that stays as it is",
    "flow": "reinforcement learning of a flow",
}
USE = """```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{place}")
processor = AutoProcessor.from_pretrained("{place}")
content = [{{"type": "image", "url": "photo.jpg"}}, {{"type": "text", "text": "What is in the picture?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
answer = model.generate(**inputs, max_new_tokens={tokens})
print(processor.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""

USE_EDITOR = """```python
from diffusers import FluxKontextPipeline
from PIL import Image

editor = FluxKontextPipeline.from_pretrained("{place}")
photo = Image.open("photo.jpg").convert("RGB")
edit = editor(
    image=photo, prompt="{instruction}", height=photo.height, width=photo.width, max_area=photo.height * photo.width,
    num_inference_steps={steps}, _auto_resize=False,
).images[0]
```"""


USE_QWEN_EDITOR = """```python
from diffusers import QwenImageEditPipeline
from PIL import Image

editor = QwenImageEditPipeline.from_pretrained("{place}")
photo = Image.open("photo.jpg").convert("RGB")
edit = editor(
    image=photo, prompt="{instruction}", height=photo.height, width=photo.width,
    num_inference_steps={steps}, true_cfg_scale={guidance}, negative_prompt=" ",
).images[0]
```"""


USE_PAINTER = """```python
from diffusers import {pipeline}

painter = {pipeline}.from_pretrained("{place}")
picture = painter("a red square", num_inference_steps={steps}, guidance_scale={guidance}).images[0]
```"""


USE_FILMER = """```python
from diffusers import WanPipeline
from diffusers.utils import export_to_video

filmer = WanPipeline.from_pretrained("{place}")
asked = dict(num_frames={frames}, num_inference_steps={steps}, guidance_scale={guidance})
video = filmer("a red square", height={side}, width={side}, **asked).frames[0]
export_to_video(video, "video.mp4", fps=16)
```"""


USE_BY = {  # all others: USE_PAINTER
    "FluxKontextPipeline": USE_EDITOR,
    "QwenImageEditPipeline": USE_QWEN_EDITOR,
    "WanPipeline": USE_FILMER,
}


USE_HEAD = """```yaml
rewards:
  head: {{weight: 1.0, fn: {fn}, args: {{model: {place}}}}}
```"""


USE_THOUGHTS = """In the config of `mmrl eval`, with the model before which it was trained:

```yaml
decode: {{method: latent, head: {place}}}
```"""


READ_BY = {
    "scalar": "reward_model",
    "multi_response": "multi_response",
    **dict.fromkeys(("process", "distilled"), "process_model"),
}


def model_card(config: TrainConfig, stage: str, history: Sequence[Mapping[str, Any]], steps: int) -> str:
    """The text of `final/README.md` after `stage`; `history` is what the trainer logged in `steps` steps."""
    block = getattr(config, stage) or {}
    parts = [
        f"---\n{yaml.safe_dump(_front(config), sort_keys=False)}---",
        f"# {Path(config.output).resolve().name}",
        f"`{config.model}`, trained by {METHODS[stage]} for {steps:,} steps with mmrl.",
        "## Data",
        _data(split_of(config, stage)),
    ]
    if stage in ("grpo", "latent", "flow"):
        parts += ["## Rewards", _rewards(config), "## Scores", _scores(config, history)]
    place = Path(config.output, FOLDERS[stage], "final")
    if makes_pictures(config):
        parts += ["## Use", _use_of_pictures(config, place, block)]
    elif stage == "latent":
        parts += ["## Use", USE_THOUGHTS.format(place=place)]
    elif stage == "reward":
        fn = READ_BY[config.head.kind]
        parts += ["## Ranked right", _accuracy(history), "## Use", USE_HEAD.format(place=place, fn=fn)]
    else:
        parts += ["## Use", USE.format(place=place, tokens=block.get("max_completion_length") or 512)]
    parts += ["## Settings", _settings(config, stage, block)]
    return "\n\n".join(parts) + "\n"


def _use_of_pictures(config: TrainConfig, place: Path, block: Mapping[str, Any]) -> str:
    pipeline, steps = _policy(config).PIPELINE, block.get("sampling_steps") or 10
    asked = {"pipeline": pipeline, "instruction": "tint the left half red", "guidance": block.get("guidance") or 3.5}
    size = {"side": block.get("side") or SIDE, "frames": block.get("frames") or FRAMES}
    return USE_BY.get(pipeline, USE_PAINTER).format(place=place, steps=steps, **asked, **size)


def _policy(config: TrainConfig) -> Any:
    """The kind of policy that a pipeline is."""
    from mmrl.model.flow.loading import policy_of

    return policy_of(local(config.model))


def _front(config: TrainConfig) -> dict[str, Any]:
    """The metadata block that the hub reads. A base that is a folder on this machine has no name there."""
    named = {} if Path(config.model).exists() or config.model.count("/") != 1 else {"base_model": config.model}
    tags = ["mmrl", *(stage for stage in METHODS if getattr(config, stage) is not None)]
    library, tag = "transformers", "image-text-to-text"
    if makes_pictures(config):
        library, tag = "diffusers", task_type(_policy(config).TASKS[0]).category
    return {"library_name": library, "pipeline_tag": tag, **named, "tags": tags}


def _data(learned: TrainingSplit) -> str:
    from data_engine.dataset.shards import read_manifest

    manifest = read_manifest(learned.path)
    with (Path(learned.path) / "manifest.json").open("rb") as file:
        sha256 = sha256_of(file)
    split = f"the split `{learned.split}` of " if learned.split else ""
    limit = f", the first {learned.limit:,} samples" if learned.limit else ""
    licences = ", ".join(sorted(manifest["licences"])) or "unknown"
    tasks = ", ".join(f"{task} {count:,}" for task, count in sorted(manifest["tasks"].items()))
    return (
        f"{split}`{manifest['name']}`{limit} ({manifest['counts']['kept']:,} samples; {tasks}). Licences: {licences}. "
        f"SHA-256 of its manifest: `{sha256}`."
    ).replace("the split", "The split", 1)


def _rewards(config: TrainConfig) -> str:
    rows = [
        [f"`{name}`", f"{spec.weight:g}", f"`{spec.fn}`", ", ".join(spec.tasks or ["all"])]
        for name, spec in config.rewards.items()
    ]
    return _table(["reward", "weight", "function", "tasks"], rows)


def _accuracy(history: Sequence[Mapping[str, Any]]) -> str:
    """The shares of pairs whose preferred answer scores higher, or of prompts whose best answer scores highest."""
    trained = [line["accuracy"] for line in history if "accuracy" in line][-WINDOW:]
    held_out = [line for line in history if "eval_accuracy" in line]
    rows = [[f"training, mean over the last {len(trained)} logged steps", f"{fmean(trained):.3f}" if trained else "-"]]
    rows += [[f"held out, at step {line.get('step', '?')}", f"{line['eval_accuracy']:.3f}"] for line in held_out[-1:]]
    return _table(["of", "share"], rows)


def _scores(config: TrainConfig, history: Sequence[Mapping[str, Any]]) -> str:
    """Means over the last logged steps, and the last evaluation while training if there was one."""
    trained = [line for line in history if "reward" in line][-WINDOW:]
    rows = []
    for name in config.rewards:
        values = [line[key] for line in trained if line.get(key := f"rewards/{name}/mean") is not None]
        rows.append([f"`{name}`", f"{fmean(values):.3f}" if values else "-"])
    text = _table(["reward", f"mean over the last {len(trained)} logged steps"], rows)
    held_out = [line for line in history if "eval_reward" in line]
    if not held_out:
        return f"{text}\n\nThese are of training prompts. There was no evaluation on held-out ones."
    last = {key.removeprefix("eval_"): value for key, value in held_out[-1].items() if key.startswith("eval_")}
    shown = [[name, "-" if value is None else f"{value:.3f}"] for name, value in last.items() if _is_number(value)]
    step = held_out[-1].get("step", "?")
    return f"{text}\n\nHeld out, at step {step}:\n\n{_table(['task and reward', 'mean'], shown)}"


def _settings(config: TrainConfig, stage: str, block: Mapping[str, Any]) -> str:
    values = config.model_dump(mode="json", exclude_defaults=True)
    kept = ("vision", "space", "seed", "dtype", "freeze", "lora", "head", "advantages", "rollout", "prompt")
    settings = {key: values[key] for key in kept if key in values} | {stage: dict(block)}
    packages = [*VERSIONED, *(["diffusers"] if makes_pictures(config) else [])]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n\n{versions}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, float)
