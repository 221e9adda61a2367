"""What vLLM's workers learn: to say what they run, and to take new weights from a directory in place.

This file is copied next to the weights and named to vLLM with `--worker-extension-cls`: it must not import mmrl. Its
methods are called by `collective_rpc`. On a CPU vLLM 0.32 keeps a packed copy of every linear weight. `reload_weights`
packs the layers anew whose weights it finds in the file; a head that is tied to the embeddings is not among them.
"""

from __future__ import annotations

import importlib
import time
from typing import Any


class MmrlWorker:
    """Mixed into vLLM's worker."""

    def mmrl_describe(self: Any) -> dict[str, Any]:
        """The model and the settings of this worker, as plain values."""
        return described(self.vllm_config)

    def mmrl_load(self: Any, directory: str) -> float:
        """Load the weights in a directory into the running model; returns the seconds."""
        started = time.perf_counter()
        self.reload_weights(weights_path=directory)
        pack_heads(self.get_model())
        return time.perf_counter() - started


def pack_heads(model: Any) -> None:
    """Renew the packed copies of heads."""
    layers: Any = importlib.import_module("vllm.model_executor.layers.utils")
    heads: Any = importlib.import_module("vllm.model_executor.layers.vocab_parallel_embedding")
    for layer in model.modules():
        if isinstance(layer, heads.ParallelLMHead) and hasattr(layer, "cpu_linear"):
            layers.dispatch_cpu_unquantized_gemm(layer, remove_weight=False)


def described(config: Any) -> dict[str, Any]:
    """A vLLM config as plain values."""
    model, lora = config.model_config, config.lora_config
    return {
        "model_type": model.hf_config.model_type,
        "vocabulary": model.get_vocab_size(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "length": model.max_model_len,
        "logprobs": str(getattr(model.logprobs_mode, "value", model.logprobs_mode)),
        "lora": 0 if lora is None else lora.max_lora_rank,
    }
