"""A judge: asked in words and pictures, it gives a reply that reads as a verdict, or a Fault."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.util
import json
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmrl.core.config import InputError, nearest, validate
from mmrl.core.media.files import MediaError
from rewards.chat_client.call_metrics import Metrics
from rewards.chat_client.event_loop import batch, begin, gathered, wait_for
from rewards.chat_client.faults import Cause, Fault, Unreadable
from rewards.chat_client.reply_cache import Cache, Keeper
from rewards.judge_client import judge_media
from rewards.judge_client.judge_spec import JudgeSpec

if TYPE_CHECKING:  # they load torch, and aiohttp, which comes with the extra `judge`
    from rewards.chat_client.session import Session
    from rewards.judge_client.local_judge import LocalSession

ReadT = TypeVar("ReadT")

_canonical = json.JSONEncoder(sort_keys=True).encode

EXIT_SECONDS = 2.0  # for closing the connections of a judge that nobody closed
KEY_FORMAT = 2  # of cache keys; a new one makes every reply in a cache out of date


@dataclass(frozen=True)
class Ask:
    """One question to a judge. `prompt` names the template and its version; `params` go over those of the judge."""

    prompt: str
    system: str
    user: str
    shown: tuple[judge_media.Shown, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a question: a text, or the cause of a missing one."""

    text: str | None
    cause: Cause | None = None
    detail: str = ""


class Judge:
    """A model behind a server. Nothing is opened before the first question."""

    def __init__(self, spec: JudgeSpec, name: str = "judge") -> None:
        self.spec, self.name, self.metrics = spec, name, Metrics()
        self._key = spec.api_key(f"judge {name}") if spec.base_url else None
        if spec.backend == "hf":
            _check_checkpoint(spec.model, name)
        self._checkpoint = _stamps(spec) if spec.backend == "hf" else []
        self._open: tuple[int, _Opened] | None = None

    def __repr__(self) -> str:
        return f"Judge({self.name}: {self.spec.model} at {self.spec.base_url or self.spec.device})"

    async def read(self, ask: Ask, parse: Callable[[str], ReadT]) -> ReadT:
        """The value that `parse` reads in the reply, or a Fault. The cache keeps only replies that can be read."""
        self.metrics.calls += 1
        try:
            return await self._read(ask, parse)
        except Fault as fault:
            self.metrics.causes[fault.cause] += 1
            raise

    def ask_all(self, asks: Sequence[Ask]) -> list[Outcome]:
        """The outcome of each question; all are asked at once, as far as the limits of the judge allow."""

        async def outcome(ask: Ask) -> Outcome:
            try:
                return Outcome(await self.read(ask, str))
            except Fault as fault:
                return Outcome(None, fault.cause, fault.detail)

        return gathered(outcome(ask) for ask in asks)

    def close(self) -> None:
        """Close connections and cache; a later question opens them anew."""
        if self._open and self._open[0] == os.getpid():
            wait_for(self._open[1].close())
        self._open = None

    async def _read(self, ask: Ask, parse: Callable[[str], ReadT]) -> ReadT:
        opened = self._opened()
        try:
            key = await self._cache_key(ask)
        except MediaError as fault:
            raise Fault("media", str(fault)) from None
        kept = opened.cache.get(key) if opened.cache else None
        if kept is not None:
            try:
                value = parse(kept)
            except Unreadable:  # a stricter reader than the one that kept it
                kept = None
            else:
                self.metrics.cached += 1
                return value
        text = await self._shared(opened, key, ask)
        try:
            value = parse(text)
        except Unreadable as error:
            raise Fault("unreadable", f"{error}; the reply: {text:.200}") from None
        if opened.keeper:
            await opened.keeper.keep((key, ask.prompt, self.spec.model, text, time.time()))
        return value

    async def _shared(self, opened: _Opened, key: bytes, ask: Ask) -> str:
        """The reply; the same question on its way at the same time is sent once, and so is one of the same batch: its
        rollouts get to their questions at different times, and are to be judged alike."""
        replies, name = batch.get({}), (opened, key)
        if name in replies:
            self.metrics.shared += 1
            return replies[name]
        while flying := opened.flying.get(key):
            await asyncio.wait([flying])
            if not flying.cancelled():  # else the sender gave up
                self.metrics.shared += 1
                return flying.result()
        reply = opened.flying[key] = asyncio.get_running_loop().create_future()
        try:
            replies[name] = await self._called(opened.session, ask)
            reply.set_result(replies[name])
        except Exception as error:  # whoever waits for this reply gets it too
            reply.set_exception(error)
        finally:
            del opened.flying[key]
            reply.cancel()  # without effect once it is done
        return reply.result()

    async def _called(self, session: Session | LocalSession, ask: Ask) -> str:
        begun = time.perf_counter()
        try:
            return await session.text(functools.partial(self._made, ask))
        except MediaError as fault:
            raise Fault("media", str(fault)) from None
        finally:
            self.metrics.seconds.append(time.perf_counter() - begun)

    def _parameters(self, ask: Ask) -> dict[str, Any]:
        spec = self.spec
        own = {"model": spec.model, "temperature": spec.temperature, "max_tokens": spec.max_tokens}
        seed = {} if spec.seed is None else {"seed": spec.seed}
        return {**own, **seed, **spec.extra, **ask.params}

    async def _made(self, ask: Ask) -> dict[str, Any]:
        return await asyncio.to_thread(self._body, ask) if ask.shown else self._body(ask)

    def _body(self, ask: Ask) -> dict[str, Any]:
        content: Any = [{"type": "text", "text": ask.user}]
        for item in reversed(ask.shown):
            uris = judge_media.data_uris(item, self.spec.max_pixels, self.spec.max_frames)
            pictures = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris]
            content = [{"type": "text", "text": item.label}, *pictures, *content]
        messages = [
            {"role": "system", "content": ask.system},
            {"role": "user", "content": content if ask.shown else ask.user},
        ]
        return {**self._parameters(ask), "messages": messages}

    async def _cache_key(self, ask: Ask) -> bytes:
        """The SHA-256 of all that decides a reply."""
        files = [await asyncio.to_thread(judge_media.digest, item) for item in ask.shown]
        pictures = [
            [item.media.kind, item.label, file, self.spec.max_pixels, self.spec.max_frames]
            for item, file in zip(ask.shown, files, strict=True)
        ]
        asked = [KEY_FORMAT, ask.prompt, ask.system, ask.user, pictures, self._parameters(ask), *self._checkpoint]
        return hashlib.sha256(_canonical(asked).encode()).digest()

    def _opened(self) -> _Opened:
        """Connections and cache of this process: a forked child may not use those of its parent."""
        if self._open is None or self._open[0] != os.getpid():
            cache = Cache(self.spec.cache) if self.spec.cache else None
            opened = _Opened(self._session(), cache)
            self._open = (os.getpid(), opened)
            weakref.finalize(self, _forgotten, opened, os.getpid())  # runs at exit too
        return self._open[1]

    def _session(self) -> Session | LocalSession:
        if self.spec.base_url is None:
            from rewards.judge_client.local_judge import LocalSession

            return LocalSession(self.spec, self.metrics)
        from rewards.chat_client.session import Session

        return Session(self.spec.base_url, self.spec, self._key, self.metrics)


class _Opened:
    """The resources that a judge holds open in one process."""

    def __init__(self, session: Session | LocalSession, cache: Cache | None) -> None:
        self.session, self.cache = session, cache
        self.flying: dict[bytes, asyncio.Future[str]] = {}
        self.keeper = Keeper(cache) if cache else None
        self.closed = False

    async def close(self) -> None:
        """Close connections and cache."""
        self.closed = True
        await self.session.close()
        if self.keeper:
            self.keeper.close()


def _forgotten(opened: _Opened, process: int) -> None:
    """Close the resources of a judge that was garbage collected without being closed."""
    if not opened.closed and process == os.getpid():
        begin(opened.close(), wait=EXIT_SECONDS)


def _check_checkpoint(model: str, name: str) -> None:
    if not all(importlib.util.find_spec(package) for package in ("torch", "transformers")):
        raise InputError(f"judge {name} runs a model in this process: pip install 'mmrl-stack[train]'")
    place = Path(model)
    if (place.is_absolute() or place.exists()) and not (place / "config.json").is_file():
        raise InputError(f"judge {name}: {model} is not a checkpoint: it has no config.json")


def _stamps(spec: JudgeSpec) -> list[Any]:
    """A key that differs between the checkpoint at a path and one saved there later."""
    files = sorted(Path(spec.model).glob("*.safetensors"))
    return [spec.backend, spec.dtype, [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]]


def judge_of(given: Judge | str | Mapping[str, Any], judges: Mapping[str, Judge]) -> Judge:
    """The judge that an option means: one of `judges` by name, or a new one from its settings."""
    if isinstance(given, Judge):
        return given
    if isinstance(given, str):
        if given not in judges:
            raise InputError(f"unknown judge {given!r}; {nearest(given, judges) if judges else 'there are no judges'}")
        return judges[given]
    return Judge(validate(JudgeSpec, given, where="judge"))
