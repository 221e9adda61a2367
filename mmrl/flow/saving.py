"""The pipeline that a training ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from data_engine.schema import Sample
from mmrl.core.config import RunError
from mmrl.core.files import put_in_place
from mmrl.model.flow.loading import load_editor, velocity_of
from mmrl.trainers.final import EXACT, HALF
from mmrl.trainers.finite import check_saved


def save_editor(trainer: Any, final: Path, sample: Sample, *, card: str) -> None:
    """Write the pipeline and its card to `final`, whole or not at all: with the average of its weights where there is
    one, and adapters merged.

    What is on disk must predict the velocity that the trained network does for `sample`; else it is a RunError.
    """
    trainer.model.take_average()
    policy, staging = trainer.policy, final.with_name(".final.writing")
    network = policy.transformer
    check_saved(network)
    trained = velocity_of(policy, sample)
    if getattr(network, "_hf_peft_config_loaded", False):
        network.fuse_lora()
        network.unload_lora()
    if trainer.accelerator.is_main_process:
        for part in (policy.pipeline, policy.pipeline.vae, network):
            part.register_to_config(_name_or_path="")  # a folder of this machine
        policy.pipeline.save_pretrained(staging)
        (staging / "README.md").write_text(card, encoding="utf-8")
        made = {"guidance": policy.guidance, "side": policy.side, "frames": policy.frames}
        again = load_editor(staging, dtype=str(network.dtype).removeprefix("torch."), **made)
        gap = float((velocity_of(again, sample) - trained).abs().mean())
        if not gap < (EXACT if network.dtype == torch.float32 else HALF):
            raise RunError(
                f"{staging} is not the model that was trained: velocities differ by {gap:.2g} on one sample; it is "
                "left there, and the checkpoints are whole"
            )
        put_in_place(staging, final)
    trainer.accelerator.wait_for_everyone()
