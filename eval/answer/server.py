"""Answers from an OpenAI-compatible server: many requests in flight, each tried again where that may help."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from data_engine.schema import Sample
from eval.generation import Draw, Generation, Sampling, without_media
from mmrl.core.config import Config, InputError
from mmrl.core.media.data_uri import data_uri
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.video import load_video
from mmrl.core.vision import Size, VisionBudget, VisionGeometry
from rewards.chat_client.call_metrics import Metrics
from rewards.chat_client.event_loop import all_of, wait_for
from rewards.chat_client.faults import Fault
from rewards.chat_client.settings import BaseUrl, ServerSettings
from rewards.prompt_form import PLAIN, PromptForm

if TYPE_CHECKING:
    from rewards.chat_client.session import Session


class Geometry(Config):
    """How the served model divides images into patches, as in its preprocessor_config.json (patch_size, merge_size)."""

    patch: PositiveInt
    merge: PositiveInt
    temporal_patch: PositiveInt = 2
    whole_video: bool = False


class ServerSpec(ServerSettings):
    """The server that answers in an evaluation.

    With a `geometry`, images are sent in the size in which the model sees them. Without one they are sent as they are.
    `videos: frames` shows a video as separate pictures, which is another prompt than a video is.
    """

    base_url: BaseUrl
    deadline: PositiveFloat = 120.0
    retries: Annotated[int, Field(ge=0)] = 4
    breaker: PositiveInt = 64  # a missing answer stops the run, so first all calls of a batch may retry
    geometry: Geometry | None = None
    videos: Literal["refused", "frames"] = "refused"

    def protocol(self) -> dict[str, Any]:
        """The settings that decide an answer: the address and the limits do not."""
        frames = {"videos": "frames"} if self.videos == "frames" else {}
        return {"geometry": self.geometry.model_dump() if self.geometry else None, "extra": self.extra, **frames}


class ServerGenerator:
    """Answers draws through chat completions. A draw without an answer stops the run; the same command resumes it."""

    def __init__(
        self,
        spec: ServerSpec,
        model: str,
        *,
        budget: VisionBudget,
        sampling: Sampling,
        blind: bool = False,
        form: PromptForm = PLAIN,
    ) -> None:
        self.spec, self.model, self.budget, self.sampling, self.blind = spec, model, budget, sampling, blind
        self.form = form
        self._geometry = VisionGeometry(**spec.geometry.model_dump()) if spec.geometry else None
        self._key = spec.api_key(f"model {model}")

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, all asked at once as far as `concurrency` allows."""
        return wait_for(self._answers(draws))

    def cost(self, sample: Sample) -> int:
        """The length of the text of the prompt; the server makes the batches."""
        return sum(len(str(message["content"])) for message in sample.prompt)

    async def _answers(self, draws: Sequence[Draw]) -> list[Generation]:
        from rewards.chat_client.session import Session  # loads aiohttp

        session = Session(self.spec.base_url, self.spec, self._key, Metrics())
        try:
            return await all_of(self._answer(session, draw) for draw in draws)
        finally:
            await session.close()

    async def _answer(self, session: Session, draw: Draw) -> Generation:
        sizes: tuple[Size, ...] = ()

        async def request() -> dict[str, Any]:
            nonlocal sizes
            body, sizes = await asyncio.to_thread(self._request, draw)
            return body

        try:
            generation = await session.reply(request, lambda _, content: generation_of(content))
        except Fault as fault:
            raise InputError(
                f"{self.model} at {self.spec.base_url} gave no answer to sample {draw.sample.id} ({fault}); "
                "run the same command again to resume"
            ) from None
        return replace(generation, seen_size=sizes)

    def _request(self, draw: Draw) -> tuple[dict[str, Any], tuple[Size, ...]]:
        sample, sampling = draw.sample, self.sampling
        views = [self._pictures(media) for media in sample.media]
        prompt = self.form.asked(without_media(sample.prompt) if self.blind else sample.prompt, sample.task)
        body = {"model": self.model, "messages": messages_of(prompt, [pictures for pictures, _ in views])}
        body |= {"max_tokens": sampling.max_new_tokens, "temperature": 0.0}
        if sampling.do_sample:
            key = json.dumps([sampling.seed, sample.id, draw.number]).encode()
            seed = int.from_bytes(hashlib.sha256(key).digest()[:4]) >> 1  # servers want 31 bits
            body |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}
        if self.form.chat_template_kwargs:  # vLLM, SGLang and `transformers serve` read it
            body["chat_template_kwargs"] = self.form.chat_template_kwargs
        return {**body, **self.spec.extra}, tuple(size for _, size in views)

    def _pictures(self, media: Media) -> tuple[list[Image.Image], Size]:
        """The image, or the frames of the video, and their (width, height) as the model sees them."""
        if media.kind == "image":
            picture = load_image(media)
            size = self.budget.image_size(*picture.size, self._geometry) if self._geometry else picture.size
            return [picture.resize(size, Image.Resampling.BICUBIC) if size != picture.size else picture], size
        video = load_video(media, self.budget, geometry=self._geometry)
        frames = [Image.fromarray(frame) for frame in video.frames]
        size = frames[0].size
        if self._geometry:
            size = self.budget.video_size(*size, len(frames), self._geometry)
        return [frame.resize(size, Image.Resampling.BICUBIC) for frame in frames], size


def check_videos(samples: Sequence[Sample], spec: ServerSpec, *, blind: bool) -> None:
    """Refuse videos, unless they are to be shown as pictures: chat completions have none, and a model that was trained
    on videos answers worse without a word."""
    found = next((s for s in samples if any(media.kind == "video" for media in s.media)), None)
    if found is not None and not blind and spec.videos == "refused":
        raise InputError(
            f"sample {found.id} of {found.source} shows a video; engine openai can only send its frames as separate "
            "pictures, which is another prompt: use engine vllm or local, or server.videos: frames to ask that way"
        )


def messages_of(prompt: Sequence[Mapping[str, Any]], pictures: Sequence[Sequence[Image.Image]]) -> list[dict[str, Any]]:
    """`prompt` in the format of a server: every media part is replaced by its images, in order."""
    following = iter(pictures)
    messages = []
    for message in prompt:
        content = message["content"]
        if not isinstance(content, str):
            parts: list[dict[str, Any]] = []
            for part in content:
                if part["type"] == "text":
                    parts.append({"type": "text", "text": part["text"]})
                else:
                    urls = [{"url": data_uri(picture, "PNG")} for picture in next(following)]
                    parts += [{"type": "image_url", "image_url": url} for url in urls]
            content = parts
        messages.append({"role": message["role"], "content": content})
    return messages


def generation_of(content: bytes) -> Generation:
    """The first choice of a chat completion, or a Fault; a message without text is an empty answer.

    >>> choice = b'{"message": {"content": "7"}, "finish_reason": "stop"}'
    >>> generation_of(b'{"choices": [%s], "usage": {"completion_tokens": 2}}' % choice)
    Generation(response='7', tokens=2, truncated=False, seen_size=(), spent={}, opened='', turns=(), made=(), film=())
    """
    try:
        reply = json.loads(content)
        choice = reply["choices"][0]
        text = _text(choice["message"].get("content"))
        tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        detail = f"not a chat completion ({type(error).__name__}): {content[:200]!r}"
        raise Fault("malformed", detail) from None
    return Generation(text, tokens, choice.get("finish_reason") == "length", ())


def _text(content: Any) -> str:
    """The text of a message, given as a text or as parts. Unpaired surrogates, which UTF-8 cannot hold, become `?`."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError(content)
    return (content or "").encode(errors="replace").decode()
