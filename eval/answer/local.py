"""Answers from a local model, in batches of any mix of media. The answer to a draw does not depend on its batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from data_engine.schema import Sample
from eval.generation import Draw, Generation, Sampling, without_media
from mmrl.core.config import InputError
from mmrl.core.families import family_of
from mmrl.core.media.item import Media
from mmrl.core.vision import Size, VisionBudget, VisionGeometry, geometry_of
from mmrl.model.encoding import Encoded, encode, naming
from mmrl.model.inputs import media_inputs
from mmrl.model.sampling import RowSampler, banned, check_finite, plain_generation, stop_tokens, vision_token_ids
from rewards.prompt_form import PLAIN, PromptForm

_NOMINAL_TOKEN = 28 * 28  # pixels of a token, to sort prompts by, if the geometry of the processor is unknown


class LocalGenerator:
    """Answers draws with a model in this process. `blind` asks without the media, `form` says what is asked beside the
    questions."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        budget: VisionBudget,
        sampling: Sampling,
        blind: bool = False,
        form: PromptForm = PLAIN,
    ) -> None:
        self.model = model
        self.processor = processor
        self.budget = budget
        self.sampling = sampling
        self.blind = blind
        self.form = form
        self._geometry = geometry_of(processor)
        self.stops = stop_tokens(model, processor.tokenizer)
        pad = processor.tokenizer.pad_token_id
        self._pad: int = self.stops[0] if pad is None else pad

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, generated as one batch."""
        samples = {draw.sample.id: draw.sample for draw in draws}
        once = {name: self.encoded(sample) for name, sample in samples.items()}
        encoded = [once[draw.sample.id] for draw in draws]
        batch = self._batch(encoded)
        output = self._output(batch, self._config(), self._samplers(draws))
        completions = output[:, batch["input_ids"].shape[1] :].tolist()
        return [
            replace(self._generation(ids, self.seen_size(draw.sample, prompt)), opened=prompt.opened)
            for ids, prompt, draw in zip(completions, encoded, draws, strict=True)
        ]

    def under(self, sampling: Sampling) -> LocalGenerator:
        """The same model with other sampling settings."""
        settings: Any = {"budget": self.budget, "blind": self.blind, "form": self.form}
        return LocalGenerator(self.model, self.processor, sampling=sampling, **settings)

    def cost(self, sample: Sample) -> int:
        """The approximate length of a prompt in tokens, by which batches are sorted."""
        text = sum(len(str(message["content"])) for message in sample.prompt) // 4
        if self.blind:
            return text
        token = self._geometry.factor**2 if self._geometry else _NOMINAL_TOKEN
        sizes = predicted_sizes(sample, self.budget, self._geometry)
        frames = [seen_frames(media, self.budget, self._geometry) for media in sample.media]
        return text + sum(w * h * t for (w, h), t in zip(sizes, frames, strict=True)) // token

    def encoded(self, sample: Sample) -> Encoded:
        """The prompt and media of a sample as the model takes them."""
        prompt, media = (without_media(sample.prompt), ()) if self.blind else (sample.prompt, sample.media)
        with naming(f"{sample.id} of {sample.source}"):
            return encode(self.processor, prompt, media, self.budget, task=sample.task, form=self.form)

    def seen_size(self, sample: Sample, prompt: Encoded) -> tuple[Size, ...]:
        """The (width, height) of each media item as the model sees it, or, asked blindly, would see it."""
        return predicted_sizes(sample, self.budget, self._geometry) if self.blind else prompt.seen_size

    def continued(
        self, rows: Sequence[Encoded], length: int, *, temperature: float, keys: Sequence[Sequence[int | str]]
    ) -> list[list[int]]:
        """Up to `length` tokens after each row, a stop token included; `temperature` 0 is greedy."""
        batch = self._batch(rows)
        config = self._config()
        config.max_new_tokens = length
        sampler = RowSampler(keys, max_new_tokens=length, temperature=temperature, top_p=self.sampling.top_p)
        output = self._output(batch, config, LogitsProcessorList([sampler]))
        return [self._until_stop(ids) for ids in output[:, batch["input_ids"].shape[1] :].tolist()]

    def next_log_probs(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """[V] log-probabilities of the token after each row; that of a vision token is -inf."""
        config = self._config()
        config.max_new_tokens, config.output_logits, config.return_dict_in_generate = 1, True, True
        output = self._output(self._batch(rows), config)
        scores_BV = banned(output.logits[0].float(), config.suppress_tokens or ())
        check_finite(scores_BV)
        return list(scores_BV.log_softmax(dim=-1))

    def last_states(self, rows: Sequence[Encoded]) -> Tensor:
        """[R, H]: what the last layer makes of the end of each row."""
        config = self._config()
        config.max_new_tokens, config.output_hidden_states, config.return_dict_in_generate = 1, True, True
        return self._output(self._batch(rows), config).hidden_states[0][-1][:, -1]

    def answer(
        self, ids: Sequence[int], seen_size: tuple[Size, ...], spent: Mapping[str, float], *, opened: str = ""
    ) -> Generation:
        """The Generation of an answer given as tokens, behind a prompt that has `opened` it."""
        return replace(self._generation(list(ids), seen_size), spent=spent, opened=opened)

    def stopped(self, ids: Sequence[int]) -> bool:
        """Whether an answer has ended."""
        return bool(ids) and ids[-1] in self.stops

    def _until_stop(self, ids: list[int]) -> list[int]:
        stop = next((at for at, token in enumerate(ids) if token in self.stops), None)
        return ids if stop is None else ids[: stop + 1]

    def _batch(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        width = max(len(prompt.input_ids) for prompt in encoded)
        ids = torch.full((len(encoded), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(encoded):
            ids[row, width - len(prompt.input_ids) :] = torch.tensor(prompt.input_ids)
            mask[row, width - len(prompt.input_ids) :] = 1
        batch = {"input_ids": ids, "attention_mask": mask, **media_inputs(encoded, ids, self.model)}
        return {key: value.to(self.model.device) for key, value in batch.items()}

    def _output(self, batch: dict[str, Tensor], config: GenerationConfig, samplers: Any = None) -> Any:
        """What `generate` returns. Each of several processes has all weights, and batches of its own."""
        with evaluating(self.model), plain_generation(self.model), torch.no_grad():
            return self.model.generate(**batch, generation_config=config, logits_processor=samplers, synced_gpus=False)

    def _config(self) -> GenerationConfig:
        """Plain decoding."""
        return GenerationConfig(
            do_sample=False,  # RowSampler draws: it leaves one token to choose
            max_new_tokens=self.sampling.max_new_tokens,
            suppress_tokens=vision_token_ids(self.model.config, self.processor) or None,
            eos_token_id=self.stops,
            pad_token_id=self._pad,
        )

    def _samplers(self, draws: Sequence[Draw]) -> LogitsProcessorList:
        """Samplers whose random numbers depend on the draw alone: two models are compared under the same ones."""
        sampling = self.sampling
        keys = [(sampling.seed, draw.sample.id, draw.number) for draw in draws]
        temperature = sampling.temperature if sampling.do_sample else 0.0
        sampler = RowSampler(
            keys, max_new_tokens=sampling.max_new_tokens, temperature=temperature, top_p=sampling.top_p
        )
        return LogitsProcessorList([sampler])

    def _generation(self, ids: list[int], seen_size: tuple[Size, ...]) -> Generation:
        stop = next((at for at, token in enumerate(ids) if token in self.stops), None)
        text = self.processor.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        return Generation(text, len(ids) if stop is None else stop + 1, stop is None, seen_size)


def predicted_sizes(sample: Sample, budget: VisionBudget, geometry: VisionGeometry | None) -> tuple[Size, ...]:
    """The (width, height) in pixels of each media item as a model of this geometry sees it; without a geometry, the
    original size."""
    sizes = []
    for media in sample.media:
        size = (media.width or 0, media.height or 0)
        if geometry and media.kind == "image":
            size = budget.image_size(*size, geometry)
        elif geometry:
            size = budget.video_size(*size, seen_frames(media, budget, geometry), geometry)
        sizes.append(size)
    return tuple(sizes)


def seen_frames(media: Media, budget: VisionBudget, geometry: VisionGeometry | None) -> int:
    """How many frames of a media item a model sees; 1 for an image."""
    if media.kind == "image" or not media.num_frames or not media.fps:
        return 1
    return len(budget.frame_indices(media.num_frames, media.fps, media.start, media.end, geometry))


def check_frames(model: Any, samples: Sequence[Sample], budget: VisionBudget, processor: Any) -> None:
    """Refuse videos of several lengths for a model that takes those of one length in a batch."""
    if not family_of(model.config).one_video_length:
        return
    geometry, videos = geometry_of(processor), [m for s in samples for m in s.media if m.kind == "video"]
    frames = {seen_frames(media, budget, geometry) for media in videos if media.num_frames and media.fps}
    if len(frames) > 1:
        raise InputError(
            f"{model.config.model_type} takes videos of one length in a batch, and these would be of {min(frames)} to "
            f"{max(frames)} frames: set vision.min_frames and vision.max_frames to one number that all videos have"
        )


def probe_sizes(
    samples: Sequence[Sample], budget: VisionBudget, processor: Any
) -> list[tuple[int, int] | tuple[int, int, int]]:
    """Sizes to check a processor on: the smallest and the largest image, and the smallest video.

    A sample whose media do not fit the budget is an error here, before any answer.
    """
    geometry = geometry_of(processor)
    images: set[tuple[int, int]] = set()
    videos: set[tuple[int, int, int]] = set()
    for sample in samples:
        with naming(f"{sample.id} of {sample.source}"):
            predicted_sizes(sample, budget, geometry)
        for media in sample.media:
            width, height = media.width or 0, media.height or 0
            if media.kind == "image":
                images.add((width, height))
            else:
                videos.add((width, height, seen_frames(media, budget, geometry)))
    by_area = sorted(images, key=math.prod)
    return [*dict.fromkeys(by_area[:1] + by_area[-1:]), *sorted(videos, key=math.prod)[:1]]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """`model` in evaluation mode inside the block, and in its previous mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
