"""A tiny policy that calls a tool: it has learned one text by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from data_engine.dataset.shards import read_samples, write_dataset
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.model.encoding import encode
from mmrl.model.inputs import media_inputs
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.tools.form import with_tools
from mmrl.tools.settings import ToolSettings
from rewards.prompt_form import PLAIN
from tests.conftest import TEXTS
from tests.support.training import VISION, questions


def answered(rollouts: Any) -> list[float]:
    """The share of the calls that had a result."""
    kinds = [[call["outcome"] for turn in rollout.turns for call in turn["calls"]] for rollout in rollouts]
    return [made.count("ok") / len(made) if made else 0.0 for made in kinds]


def calling_material(out: Path, kinds: str, said: str, tools: list[str]) -> Path:
    """`out` with a dataset of `questions` in `data` and in `model` a policy that mostly says `said`."""
    write_dataset(questions(kinds, out / "media"), out / "data")
    model, processor = tiny_model("qwen2_5_vl", [*TEXTS, *[said] * 50], size=TinySize(hidden=32, mlp=64, heads=2))
    budget = VisionBudget(**VISION)
    apply_budget(processor, budget)
    by_heart(model, processor, list(read_samples(out / "data")), said, tools, budget)
    for part in (model, processor):
        part.save_pretrained(out / "model")
    return out


def by_heart(model: Any, processor: Any, samples: Any, said: str, tools: list[str], budget: VisionBudget) -> None:
    """Teach `model` to answer `samples`, asked with these tools, by `said`."""
    form, tokenizer = with_tools(PLAIN, processor, ToolSettings(tools=tools)), processor.tokenizer
    answer = [*tokenizer(said, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    rows = [encode(processor, one.prompt, one.media, budget, task=one.task, form=form) for one in samples]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = [torch.inf] * len(rows)
    for step in range(600):
        row = rows[step % len(rows)]
        ids = torch.tensor([[*row.input_ids, *answer]])
        logits = model(input_ids=ids, **media_inputs([row], ids, model, left=False)).logits[0, -len(answer) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
        losses[step % len(rows)] = loss.item()
        if max(losses) < 0.003:  # of a token; the whole text is said nine times of ten
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(losses)
