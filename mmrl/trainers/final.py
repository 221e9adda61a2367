"""The final model of a stage: written whole, and compared with the trained one before anything says that it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from mmrl.core.config import RunError
from mmrl.core.files import put_in_place
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import bare, media_inputs
from mmrl.trainers.finite import check_saved
from mmrl.trainers.sharding import gathered_state, in_one_piece

logger = logging.getLogger(__name__)

EXACT, HALF = 1e-3, 0.1  # how far log-probs may be apart: the largest in float32, the mean in half precision


@torch.no_grad()
def next_log_probs(model: Any, prompt: Encoded) -> Tensor:
    """[V]: log-probs of the token after a prompt, on the CPU."""
    ids = torch.tensor([prompt.input_ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **media_inputs([prompt], ids, model)}
    return _logits(model, inputs)[0, -1].float().log_softmax(dim=-1).cpu()


@torch.no_grad()
def scores(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """[B, 1]: what a reward model gives a batch, on the CPU."""
    return _logits(model, inputs).float().cpu()


def _logits(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output of a model in evaluation mode."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    output = model(**{name: value.to(device) for name, value in inputs.items()}, use_cache=False)
    model.train(training)
    return output.logits


Reading = Callable[[Any, Any], Tensor]  # what a model makes of one example, to be compared


def save_final(
    trainer: Any, processor: Any, final: Path, example: Any, *, card: str = "", reading: Reading = next_log_probs
) -> None:
    """Write the model (adapters merged), the processor and its card to `final`, whole or not at all.

    What is on disk must read `example` (a prompt) as the trained model does; else it is a RunError, and nothing is put
    in the place of the final model. Weights that are sharded are not compared.
    """
    staging = final.with_name(".final.writing")
    model = trainer.accelerator.unwrap_model(trainer.model)
    whole = not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)
    trained = reading(model, example) if whole else None
    if hasattr(model, "merge_and_unload"):
        with in_one_piece(model):
            merged = model.merge_and_unload()
            check_saved(merged)
            if trainer.accelerator.is_main_process:
                merged.save_pretrained(staging, state_dict=gathered_state(merged))
    else:
        check_saved(model)
        trainer.save_model(str(staging))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle: nothing anyone should load
        processor.save_pretrained(staging)
        (staging / "README.md").write_text(card, encoding="utf-8")
        if trained is not None:
            compare(staging, bare(model), example, trained, reading)
        put_in_place(staging, final)
    trainer.accelerator.wait_for_everyone()


def compare(saved: Path, model: Any, example: Any, trained: Tensor, reading: Reading = next_log_probs) -> None:
    """Refuse the model in `saved` if it does not make of `example` what the trained model does, `trained`."""
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size * 1.5 > psutil.virtual_memory().available:
        logger.warning("%s was not compared with the trained model: memory is short", saved)
        return
    again = type(model).from_pretrained(saved, dtype=model.dtype)
    difference = (reading(again, example) - trained).abs()
    half = model.dtype != torch.float32
    gap = float(difference.mean() if half else difference.max())
    if not gap < (HALF if half else EXACT):
        what = "log-probs of the next token" if reading is next_log_probs else "scores"
        raise RunError(
            f"{saved} is not the model that was trained: {what} differ by {gap:.2g} on one prompt; it is left there, "
            "and the checkpoints are whole"
        )
