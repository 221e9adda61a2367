"""A small server that speaks vLLM's protocol, with a real model behind it: it answers with transformers.

`python -m tests.support.engine_server MODEL PORT`. It takes weights and adapters as vLLM does, and faults by the call
`disturb` of its worker.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import LogitsProcessorList

from mmrl.engine.client import Client
from mmrl.engine.features import packed_items
from mmrl.engine.server import OwnServer
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import media_inputs
from mmrl.model.loading import load_checkpoint
from mmrl.model.sampling import RowSampler

COMMAND = [sys.executable, "-m", "tests.support.engine_server", "{model}", "{port}"]


class Worker:
    """The served model, and what is answered with it."""

    def __init__(self, path: Path) -> None:
        self.model, self.processor = load_checkpoint(path, dtype="float32")
        self.model.eval()
        self.kind = type(self.model)
        self.weights, self.lock = "default", threading.Lock()
        self.fault, self.claims, self.left, self.asked = "", dict[str, Any](), sys.maxsize, 0

    def disturb(self, fault: str = "", claims: Mapping[str, Any] | None = None, left: int = sys.maxsize) -> None:
        """From now on: a fault in every answer (`stall`: in the next), other claims about itself, an end by `kill -9`
        after `left` answers."""
        self.fault, self.claims, self.left, self.asked = fault, dict(claims or {}), left, 0

    def answered(self) -> int:
        """How many questions were answered since `disturb`."""
        return self.asked

    def mmrl_describe(self) -> dict[str, Any]:
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        said = {"model_type": self.model.config.model_type, "vocabulary": vocabulary, "dtype": "float32"}
        return said | {"length": 4096, "logprobs": "processed_logprobs", "lora": 8} | self.claims

    def mmrl_load(self, directory: str) -> float:
        self.model = self.kind.from_pretrained(directory, dtype=torch.float32).eval()
        return 0.0

    def adapt(self, directory: str) -> None:
        bare = self.model.unload() if isinstance(self.model, PeftModel) else self.model
        self.model = PeftModel.from_pretrained(bare, directory).eval()

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a request of the token endpoint."""
        if self.fault == "stall":
            self.fault = ""
            time.sleep(60)
        with self.lock, torch.no_grad():
            self.asked, self.left = self.asked + 1, self.left - 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            parameters, weights = body["sampling_params"], self.weights
            tokens, logprobs = self._drawn(body["token_ids"], body.get("features"), parameters)
        choices = []
        for said, values in zip(tokens.tolist(), logprobs.tolist(), strict=True):
            stops = [place + 1 for place, token in enumerate(said) if token in parameters["stop_token_ids"]]
            end = min([*stops, len(said)])
            content = [{"token_id": t, "logprob": v} for t, v in zip(said[:end], values[:end], strict=True)]
            spans = [{"version": weights}]
            choices.append({"token_ids": said[:end], "logprobs": {"content": content}, "weight_versions": spans})
        return spoiled({"choices": choices}, self.fault)

    def _drawn(self, ids: list[int], features: Any, asked: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([ids] * asked["n"])
        types = {"mm_token_type_ids": torch.tensor(self.processor.create_mm_token_type_ids([ids]))}
        tensors = tensors_in(features, ids, self.processor, self.model.config)
        row = Encoded(ids, {**tensors, **types}, (), frozenset(types))
        sampler = RowSampler(
            [(asked["seed"] or 0, number) for number in range(asked["n"])],
            max_new_tokens=asked["max_tokens"],
            **{name: asked[name] for name in ("temperature", "top_p", "top_k", "min_p")},
        )
        output = self.model.generate(
            input_ids=rows,
            attention_mask=torch.ones_like(rows),
            **media_inputs([row] * asked["n"], rows, self.model),
            max_new_tokens=asked["max_tokens"],
            do_sample=False,
            suppress_tokens=[int(token) for token in asked["logit_bias"]] or None,
            logits_processor=LogitsProcessorList([sampler]),
            eos_token_id=asked["stop_token_ids"],
            pad_token_id=asked["stop_token_ids"][0],
        )
        return output[:, len(ids) :], sampler.log_probs()


def tensors_in(features: Any, ids: list[int], processor: Any, config: Any) -> dict[str, Tensor]:
    """The processor's tensors in the features of a request, whose pixels are whole numbers; a time step of a video that
    goes as a picture is a video again."""
    images, found = processor.image_processor, dict[str, list[Tensor]]()
    mean, std = (torch.tensor(value)[:, None] for value in (images.image_mean, images.image_std))
    for kind, items in features["kwargs_data"].items() if features else ():
        for item, place in zip(items, features["mm_placeholders"][kind], strict=True):
            token = ids[place["offset"]]
            assert ids[place["offset"] : place["offset"] + place["length"]] == [token] * place["length"]
            named = {"pixel_values": "pixel_values_videos", "image_grid_thw": "video_grid_thw"}
            for name, (_, value) in packed_items(base64.b64decode(item)).items():
                if "pixel" in name:
                    raw = value.float().reshape(len(value), len(mean), -1)
                    value = ((raw * images.rescale_factor - mean) / std).reshape(value.shape)
                name = named.get(name, name) if token == config.video_token_id else name
                found.setdefault(name, []).append(value if "pixel" in name else value[None])
    return {name: torch.cat(values) for name, values in found.items()}


def spoiled(reply: dict[str, Any], fault: str) -> dict[str, Any]:
    """`reply` with one thing wrong."""
    first = reply["choices"][0]
    content = first["logprobs"]["content"]
    if fault == "count":
        reply["choices"] = reply["choices"] * 2
    elif fault == "logprobs":
        first["logprobs"]["content"] = content[1:]
    elif fault == "nan":
        content[0]["logprob"] = float("nan")
    elif fault == "token":
        first["token_ids"][0] = 10**6
    elif fault == "cut":
        first["token_ids"], first["logprobs"]["content"] = [9], content[:1]
    elif fault == "weights":
        first["weight_versions"] = [{"version": "another"}]
    elif fault == "shift":
        for token in content:
            token["logprob"] -= 0.5
    return {"text": "hello"} if fault == "chat" else reply


class Handler(BaseHTTPRequestHandler):
    """The paths of vLLM that mmrl asks."""

    worker: Worker

    def log_message(self, *_: Any, **__: Any) -> None:
        """Nothing: the log is for faults."""

    def do_GET(self) -> None:
        version = self.worker.claims.get("version", "0.32.0+test")
        self._send({"/health": None, "/version": {"version": version}}[self.path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or "{}")
        try:
            self._send(*self._answer(body))
        except Exception as error:
            self._send({"error": f"{type(error).__name__}: {error}"}, 500)
            raise

    def _answer(self, body: Mapping[str, Any]) -> tuple[Any, int]:
        worker = self.worker
        if self.path == "/inference/v1/generate":
            if body["model"] == "adapter" and not isinstance(worker.model, PeftModel):
                return {"error": "The model `adapter` does not exist."}, 404
            if len(body["token_ids"]) > 4096:
                return {"error": "too long"}, 400
            return worker.reply(body), 200
        if self.path == "/collective_rpc":
            return {"results": [getattr(worker, body["method"])(*body["args"])]}, 200
        if self.path == "/v1/load_lora_adapter":
            worker.adapt(body["lora_path"])
        elif self.path == "/update_weight_version":
            worker.weights = body["new_version"]
        else:
            assert self.path in ("/reset_prefix_cache", "/reset_encoder_cache"), self.path
        return {"success": True}, 200

    def _send(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode() if content is not None else b""
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(model: Path, log: Path) -> Iterator[Client]:
    """A server of `model` in a process of its own."""
    command = [part.format(model=model, port="{}") for part in COMMAND]
    server = OwnServer(lambda port: [part.format(port) for part in command], os.environ, log, deadline=120)
    try:
        yield Client(server.start(), 60)
    finally:
        server.stop()


if __name__ == "__main__":
    torch.set_num_threads(1)
    Handler.worker = Worker(Path(sys.argv[1]))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
