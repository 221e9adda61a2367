"""vLLM inside this process: the same questions and answers as by its server, weights straight from memory.

vLLM must be importable here. What it imports is loaded with the first question.
"""

from __future__ import annotations

import base64
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.engine.asking import Answer, Drawing, Question, answers_of
from mmrl.engine.client import ADAPTER
from mmrl.engine.features import packed_items
from mmrl.engine.launch import arguments_of, exchange_folder
from mmrl.engine.served import Served, check_described, check_lengths
from mmrl.engine.settings import VllmSettings
from mmrl.engine.weights import write_adapter
from mmrl.engine.worker import described, pack_heads

WHERE = "the engine in this process"
ALONE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


class InsideEngine:
    """`VllmEngine` without a server: there is nothing that could die alone."""

    def __init__(self, settings: VllmSettings, served: Served, log: Path, *, cpu: bool) -> None:
        self.settings, self.served, self.cpu = settings, served, cpu
        self.exchange = exchange_folder(settings, log)
        self.weights, self.length = "", 0
        self.faults: list[str] = []
        self._llm: Any = None
        self._adapter: Any = None

    def push(self, model: Any, name: str) -> None:
        """Give the engine the weights (or the adapters) of `model`."""
        llm = self._started()
        if self.served.lora_rank:
            place = str(write_adapter(model, self.exchange / "weights"))
            self._adapter = vllm_part("lora.request").LoRARequest(ADAPTER, 1, place, load_inplace=True)
            llm.llm_engine.add_lora(self._adapter)
        else:
            self._load(weights_iterator=((key, value.detach()) for key, value in model.named_parameters()))
        self._forget(name)

    def push_directory(self, directory: Path, name: str) -> None:
        """The same, of weights that are in a directory."""
        self._started()
        self._load(weights_path=str(directory))
        self._forget(name)

    def completions(self, questions: Sequence[Question], drawing: Drawing) -> list[list[Answer]]:
        """The answers to each question."""
        check_lengths(questions, drawing, self.length)
        engine, done = self._llm.llm_engine, dict[str, Any]()
        for number, question in enumerate(questions):
            engine.add_request(
                str(number), _prompt(question), _parameters(question, drawing), lora_request=self._adapter
            )
        while engine.has_unfinished_requests():
            done |= {one.request_id: one for one in engine.step() if one.finished}
        return [
            answers_of(
                self._reply(done[str(number)]), question, drawing, vocabulary=self.served.vocabulary, where=WHERE
            )
            for number, question in enumerate(questions)
        ]

    def close(self) -> None:
        """Let go of the engine."""
        self._llm = None

    def _started(self) -> Any:
        if self._llm is not None:
            return self._llm
        os.environ.update({**ALONE, "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")})
        try:
            vllm = vllm_part()
        except ImportError as error:
            raise InputError(
                f"vllm.inside needs vLLM in this environment ({error}); install it, or let a server be started"
            ) from None
        if not vllm.__version__.startswith(self.settings.versions):
            known = ", ".join(f"{version}*" for version in self.settings.versions)
            raise InputError(f"vLLM {vllm.__version__} is installed, known are {known}: install one of them")
        served = self.served
        self._llm = vllm.LLM(**arguments_of(self.settings, served, cpu=self.cpu))
        told = described(self._worker().vllm_config)
        check_described(told, served, WHERE)
        self.length = told["length"]
        return self._llm

    def _worker(self) -> Any:
        return self._llm.llm_engine.model_executor.driver_worker.worker

    def _load(self, **source: Any) -> None:
        self._worker().reload_weights(**source)
        pack_heads(self._worker().get_model())

    def _forget(self, name: str) -> None:
        """Forget what was computed with other weights."""
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_encoder_cache()
        self.weights = name

    def _reply(self, output: Any) -> dict[str, Any]:
        """What the server would reply."""
        choices = [
            {
                "token_ids": list(one.token_ids),
                "logprobs": {
                    "content": [{"logprob": p[t].logprob} for p, t in zip(one.logprobs, one.token_ids, strict=True)]
                },
                "weight_versions": [{"version": self.weights}],
            }
            for one in output.outputs
        ]
        return {"choices": choices}


def vllm_part(name: str = "") -> Any:
    """A module of vLLM; without a name, vLLM itself."""
    return importlib.import_module(f"vllm.{name}" if name else "vllm")


def _parameters(question: Question, drawing: Drawing) -> Any:
    named = drawing.parameters(question)
    biases = {int(token): bias for token, bias in named.pop("logit_bias").items()}
    final = vllm_part("sampling_params").RequestOutputKind.FINAL_ONLY
    return vllm_part().SamplingParams(**named, logit_bias=biases, output_kind=final)


def _prompt(question: Question) -> Any:
    """vLLM's own input: ids with expanded media tokens, and the tensors of each item."""
    if question.features is None:
        return {"prompt_token_ids": question.ids}
    inputs = vllm_part("multimodal.inputs")

    def element(field: str, tensor: Any) -> Any:
        whole = inputs.MultiModalFlatField(slices=[slice(0, len(tensor))], dim=0) if field == "flat" else None
        return inputs.MultiModalFieldElem(tensor, whole or inputs.MultiModalBatchedField(keep_on_cpu=True))

    features = question.features
    items = {
        kind: [
            inputs.MultiModalKwargsItem(
                {name: element(*one) for name, one in packed_items(base64.b64decode(data)).items()}
            )
            for data in packed
        ]
        for kind, packed in features["kwargs_data"].items()
    }
    places = {
        kind: [inputs.PlaceholderRange(**one) for one in found] for kind, found in features["mm_placeholders"].items()
    }
    return vllm_part("inputs").mm_input(
        prompt_token_ids=question.ids,
        mm_kwargs=inputs.MultiModalKwargsItems(items),
        mm_hashes=dict(features["mm_hashes"]),
        mm_placeholders=places,
    )
