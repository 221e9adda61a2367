"""The command line and the environment of a vLLM server that answers as training wants it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.core.files import sha256_of
from mmrl.engine import worker
from mmrl.engine.client import BASE
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings

WORKER = "mmrl_worker"  # the name under which vLLM imports a copy of mmrl/engine/worker.py
SHARED_MEMORY = Path("/dev/shm")
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
RESERVED = ("model", "host", "port", "dtype", "served_model_name", "logprobs_mode", "worker_extension_cls")


def exchange_folder(settings: VllmSettings, run: Path) -> Path:
    """An empty folder for the weights of a run, where trainer and server both see it: in main memory, if the system has
    such a place. A run that is started again finds its old one, which is emptied."""
    parent = settings.exchange or (SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    place = parent / f"mmrl-engine-{sha256_of(str(run.absolute()).encode())[:12]}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def command_of(settings: VllmSettings, served: Served, port: int, *, cpu: bool) -> list[str]:
    """What starts a server of `served`."""
    if settings.command is not None:
        return [part.format(model=served.checkpoint, port=port) for part in settings.command]
    arguments: dict[str, Any] = {
        "host": "127.0.0.1",  # the worker's methods may be called by whoever reaches the port
        "port": port,
        "served_model_name": BASE,
        "enable_scale_out": True,  # the token endpoint
        "worker_extension_cls": f"{WORKER}.MmrlWorker",
        **arguments_of(settings, served, cpu=cpu),
    }
    words = [word for name, value in arguments.items() for word in _words(name, value)]
    return [settings.python, "-m", "vllm.entrypoints.openai.api_server", *words]


def arguments_of(settings: VllmSettings, served: Served, *, cpu: bool) -> dict[str, Any]:
    """vLLM's arguments, whether it runs as a server or in this process; those of the settings win."""
    if wrong := sorted(set(settings.arguments) & set(RESERVED)):
        raise InputError(f"vllm.arguments: {', '.join(wrong)} is set by mmrl; leave it out")
    arguments: dict[str, Any] = {
        "model": str(served.checkpoint),
        "dtype": served.dtype,
        "logprobs_mode": "processed_logprobs",  # as drawn: after temperature and bans
        "generation_config": "vllm",  # no penalties and limits of the checkpoint's own
    }
    if served.lora_rank:
        arguments |= {"enable_lora": True, "max_lora_rank": _rank(served.lora_rank), "max_loras": 1}
        arguments |= {"enable_tower_connector_lora": True} if served.tower else {}
    if cpu:  # chunks of a prefill and a seed end the engine of 0.32; small blocks let rollouts share short prompts
        arguments |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": 16384}
        arguments |= {"block_size": 32}
    return {**arguments, **settings.arguments}


def _rank(wanted: int) -> int:
    """The smallest rank that vLLM allows as a bound and that holds `wanted`.

    >>> _rank(4), _rank(33)
    (8, 64)
    """
    return next((rank for rank in RANKS if rank >= wanted), wanted)


def environment_of(settings: VllmSettings, exchange: Path) -> dict[str, str]:
    """The environment of that server; the worker's extension is put into `exchange`, where it is imported from."""
    shutil.copy(worker.__file__, exchange / f"{WORKER}.py")
    defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    ours = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(exchange), os.environ.get("PYTHONPATH")]))
    return {**defaults, **os.environ, **ours, **settings.environment}


def _words(name: str, value: Any) -> list[str]:
    """`value` as vLLM's arguments.

    >>> _words("enforce_eager", True), _words("enable_chunked_prefill", False), _words("max_loras", 2)
    (['--enforce-eager'], ['--no-enable-chunked-prefill'], ['--max-loras', '2'])
    """
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    if value is False or value is None:
        return [] if value is None else [f"--no-{option[2:]}"]
    return [option, json.dumps(value) if isinstance(value, Mapping | list) else str(value)]
