"""vLLM behind one interface: `completions` answers questions, `push` gives it new weights.

A server that dies, stalls or forgets its weights is put right, and the questions without an answer are asked again: an
answer is taken only from the weights that were pushed last.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError, RunError
from mmrl.engine.asking import Answer, Drawing, Question, answers_of
from mmrl.engine.client import ADAPTER, BASE, START, Client, EngineError
from mmrl.engine.inside import InsideEngine
from mmrl.engine.launch import command_of, environment_of, exchange_folder
from mmrl.engine.served import Served, check_described, check_lengths
from mmrl.engine.server import OwnServer, StartError
from mmrl.engine.settings import VllmSettings
from mmrl.engine.weights import write_adapter, write_weights

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks at a server that is not ours


class VllmEngine:
    """A vLLM server: our own with its log at `log`, or the one at `settings.base_url`. It starts when first used."""

    def __init__(self, settings: VllmSettings, served: Served, log: Path, *, cpu: bool) -> None:
        self.settings, self.served = settings, served
        self.exchange = exchange_folder(settings, log)
        self.own: OwnServer | None = None
        if settings.base_url is None:
            environment = environment_of(settings, self.exchange)
            self.own = OwnServer(
                lambda port: command_of(settings, served, port, cpu=cpu),
                environment,
                log,
                deadline=settings.start_deadline,
            )
        self.client = Client((settings.base_url or "").rstrip("/").removesuffix("/v1"), settings.deadline)
        self.length = 0  # the server's max_model_len
        self.weights: tuple[str, str] | None = None  # what was pushed last: its name, its directory
        self.faults: list[str] = []
        self._identity = secrets.token_hex(4)  # two runs may push weights of equal steps to one server
        self._mending = threading.Lock()
        self._mended, self._closed = 0, False

    def push(self, model: Any, name: str) -> None:
        """Give the engine the weights (or the adapters) of `model`; from now on answers must come from them."""
        place = self.exchange / "weights"
        if self.served.lora_rank:
            write_adapter(model, place)
        else:
            write_weights(model, self.served.checkpoint, place)
        self.push_directory(place, name)

    def push_directory(self, directory: Path, name: str) -> None:
        """The same, of weights that are in a directory."""
        self.weights = (f"{self._identity}:{name}", str(directory))
        try:
            if not self.length:
                self._connect()
            self._load()
        except EngineError as fault:
            self._mend(fault, self._mended)

    def completions(self, questions: Sequence[Question], drawing: Drawing) -> list[list[Answer]]:
        """The answers to each question, all of them from the weights pushed last."""
        assert self.weights is not None, "push weights first"
        check_lengths(questions, drawing, self.length)
        found: dict[int, list[Answer]] = {}
        while missing := [place for place in range(len(questions)) if place not in found]:
            turn, before = self._mended, len(found)
            with ThreadPoolExecutor(min(self.settings.concurrency, len(missing))) as pool:
                outcomes = list(pool.map(lambda place: self._asked(questions[place], drawing), missing))
            found |= {place: one for place, one in zip(missing, outcomes, strict=True) if isinstance(one, list)}
            if faults := [one for one in outcomes if isinstance(one, EngineError)]:
                self._count(faults[0], progress=len(found) > before)
                self._mend(faults[0], turn)
        self._failures = 0
        return [found[place] for place in range(len(questions))]

    def close(self) -> None:
        """End the server if it is our own, and remove the weights that were written for it."""
        self._closed = True
        if self.own is not None:
            self.own.stop()
        shutil.rmtree(self.exchange, ignore_errors=True)

    # Questions

    _failures = 0

    def _asked(self, question: Question, drawing: Drawing) -> list[Answer] | EngineError:
        assert self.weights is not None
        body = {
            "model": ADAPTER if self.served.lora_rank else BASE,
            "token_ids": question.ids,
            "sampling_params": drawing.parameters(question),
        }
        if question.features is not None:
            body["features"] = question.features
        try:
            reply = self.client.generated(body)
        except EngineError as fault:
            return fault
        where = f"the engine at {self.client.address}"
        answers = answers_of(reply, question, drawing, vocabulary=self.served.vocabulary, where=where)
        others = {answer.weights for answer in answers} - {self.weights[0]}
        if others:
            return EngineError("forgot", f"it answers with the weights {min(others)}, pushed were {self.weights[0]}")
        return answers

    # The server

    def _connect(self) -> None:
        """Reach the server, started if it is ours, and refuse one that is not what is needed."""
        if self.own is not None and not self.own.running:
            self.client = Client(self.own.start(), self.settings.deadline)
        elif not self.client.healthy():
            raise InputError(f"no engine answers at {self.client.address}; {START}, or leave vllm.base_url out")
        version = str((self.client.call("/version") or {}).get("version"))
        if not version.startswith(self.settings.versions):
            raise InputError(
                f"the engine at {self.client.address} is vLLM {version}; requests are known for "
                f"{', '.join(f'{known}*' for known in self.settings.versions)}: install that version (or name others "
                "in vllm.versions, if their protocol is the same)"
            )
        told = self.client.told("mmrl_describe")
        check_described(told, self.served, f"the engine at {self.client.address}")
        self.length = int(told["length"])

    def _load(self) -> None:
        """Put the weights pushed last in place, and have everything forgotten that was computed with others."""
        assert self.weights is not None
        name, directory = self.weights
        if self.served.lora_rank:
            adapter = {"lora_name": ADAPTER, "lora_path": directory, "load_inplace": True}
            self.client.call("/v1/load_lora_adapter", adapter)
        else:
            self.client.told("mmrl_load", directory)
        self.client.post("/reset_prefix_cache")
        self.client.post("/reset_encoder_cache")  # else pictures keep the features of the old vision tower
        self.client.call("/update_weight_version", {"new_version": name})

    def _count(self, fault: Exception, *, progress: bool) -> None:
        self._failures = 1 if progress else self._failures + 1
        if self._failures > self.settings.restarts:
            raise RunError(
                f"the engine failed {self._failures} times in a row, last: {fault}; the same command resumes the run "
                "from its last checkpoint"
            ) from None

    def _mend(self, fault: EngineError, turn: int) -> None:
        """Make the server answer again with the weights pushed last; once for all who met the same fault."""
        with self._mending:
            if turn != self._mended:
                return
            if self._closed:
                raise RunError("the engine was ended while it was asked")
            logger.warning("the engine failed (%s); its questions are asked again", fault)
            self.faults.append(str(fault))
            while True:
                try:
                    self._revive(fault)
                    break
                except (EngineError, StartError) as other:
                    self._count(other, progress=False)
                    fault = other if isinstance(other, EngineError) else fault
            self._mended += 1

    def _revive(self, fault: EngineError) -> None:
        well = fault.cause == "forgot" and self.client.healthy()
        if self.own is not None and not well:
            self.own.stop()
        elif not well:
            self._wait_for_it()
        self._connect()
        if self.weights is not None:
            self._load()

    def _wait_for_it(self) -> None:
        """Wait until a server that is not ours is well again."""
        until = time.monotonic() + self.settings.start_deadline
        while not self.client.healthy():
            if time.monotonic() > until:
                raise RunError(
                    f"no engine answers at {self.client.address} since {self.settings.start_deadline:g} s "
                    f"(vllm.start_deadline); {START}, then run the same command: it resumes from its last checkpoint"
                )
            time.sleep(PAUSE)


def engine_of(settings: VllmSettings, served: Served, log: Path, *, cpu: bool) -> VllmEngine | InsideEngine:
    """The engine that the settings ask for."""
    return (InsideEngine if settings.inside else VllmEngine)(settings, served, log, cpu=cpu)
