"""Answers on disk, under a hash of everything that decides them: a run does not repeat the questions of another run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_engine.schema import Sample
from eval.generation import Draw, Generation, Generator
from mmrl.core.canonical_json import dumps
from mmrl.core.media.files import content_hash
from rewards.chat_client.reply_cache import Cache

NOT_DECIDING = ("benchmark", "version", "split")  # keys of a protocol; prompt and media are hashed themselves


class CachedGenerator:
    """`generator` behind a cache of answers. The key holds the protocol, the prompt, the bytes of the media on disk,
    and for sampled draws the sample and the number of the draw."""

    def __init__(self, generator: Generator, place: Path, protocol: Mapping[str, Any]) -> None:
        self._generator, self._cache = generator, Cache(place)
        self._protocol = {key: value for key, value in protocol.items() if key not in NOT_DECIDING}
        self.hits = 0

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, in order."""
        keys = [self._key(draw) for draw in draws]
        generations = {key: _read(text) for key in keys if (text := self._cache.get(key)) is not None}
        self.hits += sum(key in generations for key in keys)
        missing = {key: draw for key, draw in zip(keys, draws, strict=True) if key not in generations}
        if missing:
            answers = dict(zip(missing, self._generator(list(missing.values())), strict=True))
            name, now = str(self._protocol.get("fingerprint")), time.time()
            self._cache.put([(key, "", name, json.dumps(asdict(answer)), now) for key, answer in answers.items()])
            generations |= answers
        return [generations[key] for key in keys]

    def cost(self, sample: Sample) -> int:
        """The cost for the generator behind the cache."""
        return self._generator.cost(sample)

    def _key(self, draw: Draw) -> bytes:
        sample = draw.sample
        guided = "decode" in self._protocol  # guided decoding draws by the sample's id, and may see its gold
        drawn = guided or self._protocol.get("decoding") == "sampled"
        sampled = [sample.id, draw.number, sample.answer if guided else None] if drawn else []
        media = [[item.kind, item.start, item.end, content_hash(item)] for item in sample.media]
        return hashlib.sha256(dumps([self._protocol, sample.prompt, media, sampled]).encode()).digest()


def _read(text: str) -> Generation:
    kept = json.loads(text)
    return Generation(**{**kept, "seen_size": tuple((width, height) for width, height in kept["seen_size"])})
