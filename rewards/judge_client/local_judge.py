"""A judge in this process: a Hugging Face checkpoint that answers questions in batches, greedily."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers
from PIL import Image

from mmrl.core.messages import parts_of
from rewards.chat_client.call_metrics import Metrics
from rewards.chat_client.faults import Fault
from rewards.judge_client.judge_spec import JudgeSpec

Body = Callable[[], Awaitable[Mapping[str, Any]]]
Reply = str | Fault

LIKELIEST = 20  # first tokens, as many as OpenAI's API gives
_lock = threading.Lock()  # judges of one checkpoint share it


class LocalSession:
    """The questions to a checkpoint; lives on one event loop, and generates in a thread of its own."""

    def __init__(self, spec: JudgeSpec, metrics: Metrics) -> None:
        self._spec, self._metrics = spec, metrics
        self._waiting: list[tuple[Body, asyncio.Future[str]]] = []
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "judge-model")

    async def text(self, body: Body) -> str:
        """The text of a reply, or a Fault; all that ask meanwhile are answered in batches."""
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, reply))
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._work())
        return await reply

    async def close(self) -> None:
        """Answer nothing more."""
        if self._working:
            self._working.cancel()
        for _, reply in self._waiting:
            reply.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        await asyncio.sleep(0)  # let those that ask at the same time join the first batch
        while self._waiting:
            taken, self._waiting = self._waiting[: self._spec.batch], self._waiting[self._spec.batch :]
            taken = [(body, reply) for body, reply in taken if not reply.done()]
            made = await asyncio.gather(*(body() for body, _ in taken), return_exceptions=True)
            bodies = {}
            for (_, reply), outcome in zip(taken, made, strict=True):
                if isinstance(outcome, BaseException):
                    reply.set_exception(outcome)
                else:
                    bodies[reply] = outcome
            for alike in _alike(bodies):
                await self._answer(alike)

    async def _answer(self, asked: dict[asyncio.Future[str], Mapping[str, Any]]) -> None:
        self._metrics.requests += len(asked)
        work = functools.partial(self._replies, list(asked.values()))
        replies: Sequence[Reply | Exception]
        try:
            replies = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:  # a model's code may raise anything; each question gets it as its cause
            replies = [Fault("server", f"{type(error).__name__}: {error}")] * len(asked)
        for reply, outcome in zip(asked, replies, strict=True):
            if reply.done():
                continue
            if isinstance(outcome, Exception):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)

    def _replies(self, bodies: Sequence[Mapping[str, Any]]) -> list[Reply]:
        return loaded(self._spec.model, self._spec.device, self._spec.dtype).replies(bodies, self._spec.deadline)


class LocalModel:
    """A checkpoint and its processor, with the replies that it gives to chat completion requests."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.sees = self.tokenizer is not processor
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def replies(self, bodies: Sequence[Mapping[str, Any]], seconds: float = float("inf")) -> list[Reply]:
        """The reply to each request; they must agree in `max_tokens`, `logprobs` and whether there are pictures."""
        if bodies[0].get("temperature"):
            return [Fault("refused", "a judge with backend hf is greedy; leave temperature at 0")] * len(bodies)
        if not self.sees and has_pictures(bodies[0]):
            return [Fault("media", "the model of this judge sees no pictures; give it `show: false` or a VLM")] * len(
                bodies
            )
        inputs = self._inputs(bodies)
        length, room = inputs["input_ids"].shape[1], self._room()
        if length + bodies[0]["max_tokens"] > room:
            why = f"{length} tokens and max_tokens={bodies[0]['max_tokens']} are more than the {room} the model takes"
            return [Fault("refused", why, too_long=True)] if len(bodies) == 1 else self._apart(bodies, seconds)
        if bodies[0].get("logprobs"):
            return self._first_tokens(inputs)
        begun = time.monotonic()
        with torch.inference_mode():
            whole = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=bodies[0]["max_tokens"],
                max_time=None if seconds == float("inf") else seconds,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        late = time.monotonic() - begun > seconds and whole.shape[1] - length < bodies[0]["max_tokens"]
        return [self._read(row, late, seconds) for row in whole[:, length:]]

    def _apart(self, bodies: Sequence[Mapping[str, Any]], seconds: float) -> list[Reply]:
        """The replies one by one: a request that is too long must not fail the others."""
        return [self.replies([body], seconds)[0] for body in bodies]

    def _inputs(self, bodies: Sequence[Mapping[str, Any]]) -> Any:
        chats = [[self._message(message) for message in body["messages"]] for body in bodies]
        return self.processor.apply_chat_template(
            chats, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
            **({"processor_kwargs": {"padding": True}} if self.sees else {"padding": True}),
        ).to(self.model.device)  # fmt: skip

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        if not self.sees:
            return {"role": message["role"], "content": content}
        return {"role": message["role"], "content": [_part(part) for part in parts_of(content)]}

    def _room(self) -> float:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or float("inf")

    def _first_tokens(self, inputs: Any) -> list[Reply]:
        """The likeliest first tokens of each reply, as JSON."""
        with torch.inference_mode():
            logits = self.model(**inputs, logits_to_keep=1).logits[:, -1].float()
        likely = logits.log_softmax(-1).topk(min(LIKELIEST, logits.shape[-1]))
        replies: list[Reply] = []
        for values, ids in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
            named: dict[str, float] = {}
            for value, token in zip(values, ids, strict=True):
                named.setdefault(self.tokenizer.decode([token]), value)
            replies.append(json.dumps(named))
        return replies

    def _read(self, row: torch.Tensor, late: bool, seconds: float) -> Reply:
        ends = self.model.generation_config.eos_token_id
        ended = torch.isin(row, torch.as_tensor(ends, device=row.device)).any() if ends is not None else False
        if late and not ended:
            return Fault("deadline", f"no whole reply within {seconds:g} s")
        text = self.tokenizer.decode(row, skip_special_tokens=True)
        return text if text.strip() else Fault("malformed", "the model said nothing")


def loaded(name: str, device: str, dtype: str) -> LocalModel:
    """The checkpoint at a path or of a hub id; loaded once in a process, and failed to load once."""
    with _lock:
        model = _loaded(name, device, dtype)
    if isinstance(model, Exception):
        raise model
    return model


@functools.cache
def _loaded(name: str, device: str, dtype: str) -> LocalModel | Exception:
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        sees = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        reader = transformers.AutoProcessor if sees else transformers.AutoTokenizer
        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model: Any = kind.from_pretrained(name, dtype=dtype)
        return LocalModel(model.to(place).eval(), reader.from_pretrained(name))
    except Exception as error:  # kept, or every rollout would try again to load it
        return error


def has_pictures(body: Mapping[str, Any]) -> bool:
    """Whether a request shows pictures."""
    contents = [message["content"] for message in body["messages"]]
    return any(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


def _alike(bodies: dict[Any, Mapping[str, Any]]) -> Iterable[dict[Any, Mapping[str, Any]]]:
    """The requests in groups that one call of the model can answer."""
    groups: dict[tuple[Any, ...], dict[Any, Mapping[str, Any]]] = {}
    for reply, body in bodies.items():
        key = (body["max_tokens"], bool(body.get("logprobs")), body.get("temperature"), has_pictures(body))
        groups.setdefault(key, {})[reply] = body
    return groups.values()


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
    return {"type": "image", "image": Image.open(io.BytesIO(data)).convert("RGB")}
