"""Answers by vLLM to the token ids and tensors that a model in this process would get, videos included."""

from __future__ import annotations

import atexit
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Generation
from mmrl.engine.asking import Drawing, Question
from mmrl.engine.features import FeatureWriter
from mmrl.engine.inside import InsideEngine
from mmrl.engine.remote import VllmEngine, engine_of
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from mmrl.model.loading import load_processor, skeleton
from mmrl.model.sampling import vision_token_ids

Engine = VllmEngine | InsideEngine
_engines: dict[tuple[str, Served], Engine] = {}


class VllmGenerator:
    """Answers draws with `engine`. `plain` has no weights: it encodes the prompts and reads the answers."""

    def __init__(self, plain: LocalGenerator, engine: Engine) -> None:
        self.plain, self.engine = plain, engine
        config, sampling = plain.model.config, plain.sampling
        self._features = FeatureWriter(config, plain.processor)
        self._drawing = Drawing(
            sampling.max_new_tokens,
            sampling.temperature if sampling.do_sample else 0.0,
            top_p=sampling.top_p if sampling.do_sample else 1.0,
            ends=tuple(plain.stops),
            banned=tuple(vision_token_ids(config, plain.processor)),
        )

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, asked at once."""
        samples = {draw.sample.id: draw.sample for draw in draws}
        prompts = {name: self.plain.encoded(sample) for name, sample in samples.items()}
        features = {name: self._features(prompt) for name, prompt in prompts.items()}
        names = [draw.sample.id for draw in draws]
        questions = [
            Question(prompts[name].input_ids, features[name], seed=self._seed(draw))
            for name, draw in zip(names, draws, strict=True)
        ]
        answers = self.engine.completions(questions, self._drawing)
        return [
            self.plain.answer(answer.ids, self.plain.seen_size(draw.sample, prompt), {}, opened=prompt.opened)
            for draw, prompt, [answer] in zip(draws, [prompts[name] for name in names], answers, strict=True)
        ]

    def cost(self, sample: Sample) -> int:
        """The approximate length of the prompt."""
        return self.plain.cost(sample)

    def _seed(self, draw: Draw) -> int:
        key = json.dumps([self.plain.sampling.seed, draw.sample.id, draw.number]).encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:4], "little") >> 1


def plain_generator(checkpoint: Path, **settings: Any) -> LocalGenerator:
    """A generator of the checkpoint without its weights, which encodes and reads but cannot answer."""
    return LocalGenerator(skeleton(checkpoint), load_processor(checkpoint), **settings)


def engine_for(plain: LocalGenerator, checkpoint: Path, settings: VllmSettings, log: Path) -> Engine:
    """vLLM with the weights of a checkpoint. Several benchmarks of a run share it; it ends with the process."""
    config = plain.model.config
    served = Served(
        checkpoint.resolve(),
        config.model_type,
        plain.model.get_output_embeddings().weight.shape[0],
        dtype=str(config.dtype or "float32").removeprefix("torch."),
    )
    key = (settings.model_dump_json(), served)
    if key not in _engines:
        import torch

        engine = engine_of(settings, served, log, cpu=not torch.cuda.is_available())
        atexit.register(engine.close)
        engine.push_directory(served.checkpoint, "checkpoint")  # a server that is there may have other weights
        _engines[key] = engine
    return _engines[key]
