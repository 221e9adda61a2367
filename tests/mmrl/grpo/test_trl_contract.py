"""TRL and transformers still have the functions that mmrl overrides and calls, with the same arguments."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import Any

import pytest
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import RepeatSampler, shuffle_sequence_dict, split_tensor_dict

from mmrl.grpo import trainer
from mmrl.grpo.config_checks import GRPO_LOSSES
from mmrl.grpo.trainer import MultimodalGRPOTrainer
from mmrl.trainers.checkpoints import WholeCheckpoints
from mmrl.trainers.dpo import MultimodalDPOTrainer
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.reward import MultimodalRewardTrainer
from mmrl.trainers.sft import MultimodalSFTTrainer
from mmrl.trainers.token_losses import DIVERGENCES, LOSSES, LOSSES_OF_F

SCORING = """model input_ids attention_mask logits_to_keep batch_size=None compute_entropy=False compute_aux_loss=False
    pixel_values=None image_grid_thw=None num_images=None pixel_attention_mask=None spatial_shapes=None num_tiles=None
    image_sizes=None token_type_ids=None mm_token_type_ids=None image_position_ids=None"""

OVERRIDDEN: dict[Any, dict[str, str]] = {
    GRPOTrainer: {
        "_generate_and_score_completions": "inputs",
        "_calculate_rewards": "inputs prompts completions completion_ids_list",
        "_compute_loss": "model inputs",
        "_prepare_inputs": "generation_batch",
        "_get_per_token_logps_and_entropies": SCORING,
        "_get_train_sampler": "dataset=None",
        "_save_checkpoint": "model trial",
    },
    DPOTrainer: {
        "_prepare_dataset": "dataset processing_class args dataset_name",
        "_precompute_ref_logps": "dataset name batch_size",
    },
    RewardTrainer: {"_prepare_dataset": "dataset processing_class args dataset_name"},
    Trainer: {
        "_get_output_dir": "trial",
        "_save_checkpoint": "model trial",
        "_load_from_checkpoint": "resume_from_checkpoint model=None",
        "_load_best_model": "",
        "_run_epoch": "model epoch train_dataloader steps_in_epoch num_update_steps_per_epoch trial "
        "ignore_keys_for_eval start_time resume_from_checkpoint epochs_trained steps_trained_in_current_epoch",
        "_determine_best_metric": "metrics trial",
        "_save_rng_state": "output_dir",
        "_load_rng_state": "checkpoint",
    },
}
CALLED = {
    unwrap_model_for_generation: "model accelerator gather_deepspeed3_params=True generation_kwargs=None "
    "gradient_checkpointing_kwargs=None",
    RepeatSampler.__init__: "self data_source mini_repeat_count batch_size=1 repeat_count=1 shuffle=True seed=None",
    shuffle_sequence_dict: "seq_dict",
    split_tensor_dict: "tensor_dict num_chunks",
    rotate_checkpoints: "output_dir save_total_limit=None best_model_checkpoint=None use_mtime=False "
    "checkpoint_prefix=checkpoint",
    get_last_checkpoint: "folder",
}


def shape(function: Any) -> str:
    """The parameters of a function with their defaults, annotations left out."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    return " ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters)


def test_trl_is_of_the_version_that_the_overrides_were_written_for() -> None:
    assert version("trl").startswith("1.16.")


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in OVERRIDDEN.items() for name in names])
def test_an_overridden_method_has_its_signature(owner: Any, name: str) -> None:
    assert shape(getattr(owner, name)) == " ".join(["self", *OVERRIDDEN[owner][name].split()])


@pytest.mark.parametrize("function", CALLED, ids=lambda function: function.__qualname__)
def test_a_called_function_has_its_signature(function: Any) -> None:
    assert shape(function) == CALLED[function]


def test_every_private_override_is_under_contract() -> None:
    known = {name for names in OVERRIDDEN.values() for name in names}
    trainers = (MultimodalGRPOTrainer, MultimodalSFTTrainer, MultimodalDPOTrainer, MultimodalRewardTrainer)
    for ours in (WholeCheckpoints, RecordedEvaluations, *trainers):
        theirs = {name for base in ours.__mro__ if not base.__module__.startswith("mmrl") for name in vars(base)}
        private = {name for name in vars(ours) if name.startswith("_") and not name.startswith("__")}
        assert private & theirs - {"_abc_impl"} <= known


def test_the_table_of_hooks_names_every_override() -> None:
    """In the docstring of `mmrl/grpo/trainer.py`: in call order, with the file that does the work."""
    overridden = {
        name
        for ours in (WholeCheckpoints, RecordedEvaluations, MultimodalGRPOTrainer)
        for name in vars(ours)
        if any(name in vars(base) for base in GRPOTrainer.__mro__) and not name.startswith("__")
    }
    words = set(re.findall(r"\w+", trainer.__doc__ or ""))
    missing = sorted(overridden - {"_abc_impl"} - words)
    assert not missing, f"add {', '.join(missing)} to the table at the head of mmrl/grpo/trainer.py"


def test_attributes_that_mmrl_reads_are_set() -> None:
    source = inspect.getsource(GRPOTrainer.__init__) + inspect.getsource(Trainer.__init__)
    for name in (
        "_step",
        "_metrics",
        "_logs",
        "_tokenizer",
        "eos_token_ids",
        "generation_kwargs",
        "num_generations",
        "rollout_func",
    ):
        assert f"self.{name} = " in source, name
    assert "self._buffered_inputs = [" in inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "output = self.rollout_func(prompts, self)" in inspect.getsource(GRPOTrainer._generate)
    assert 'tool_mask = extra_fields.pop("env_mask", None)' in inspect.getsource(GRPOTrainer._generate)
    assert "self._logs" in inspect.getsource(GRPOTrainer.log)
    assert 'dataset_kwargs.get("skip_prepare_dataset"' in inspect.getsource(SFTTrainer.__init__)


def test_the_losses_of_grpo_are_those_of_trl() -> None:
    source = inspect.getsource(GRPOTrainer._compute_loss)
    named = re.findall(r'loss_type == "(\w+)"', source) + re.findall(r"loss_type in (\[.*?\])", source)
    assert set(re.findall(r"\w+", " ".join(named))) == set(GRPO_LOSSES)


def test_the_losses_of_dpo_are_those_of_trl() -> None:
    """TRL names them in the code that computes them alone."""
    named = re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss))
    assert sorted(named) == sorted(LOSSES)
    divergences = re.findall(r'f_divergence_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss))
    assert sorted(divergences) == sorted(DIVERGENCES)
    (of_f,) = re.findall(r"f_divergence_loss_types = (\{.*?\})", inspect.getsource(DPOTrainer.__init__))
    assert set(re.findall(r"\w+", of_f)) == set(LOSSES_OF_F)
    read = {"completion_mask", "ref_chosen_logps", "ref_rejected_logps"}
    assert all(f'inputs["{name}"]' in inspect.getsource(DPOTrainer._compute_loss) for name in read)
