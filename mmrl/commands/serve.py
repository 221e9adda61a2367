"""`mmrl serve MODEL`: a vLLM server as training and evaluation want it, until it is interrupted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmrl.commands import new_app

app = new_app()


@app.command()
def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint directory or a hub id.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Arguments of vLLM: max_model_len=8192.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens, on this machine only.")] = 8000,
    python: Annotated[str, typer.Option(help="The interpreter that has vLLM.")] = sys.executable,
    dtype: Annotated[str | None, typer.Option(help="Default: the checkpoint's.")] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="The largest rank of adapters (lora.r); 0: none.")] = 0,
    tower: Annotated[bool, typer.Option("--tower", help="Adapters may be in the vision tower.")] = False,
    exchange: Annotated[Path | None, typer.Option(help="A folder for what the server imports.")] = None,
) -> None:
    """Serve MODEL with vLLM at http://127.0.0.1:PORT, for `rollout.engine: vllm` and `engine: vllm`."""
    import torch
    from transformers import AutoConfig

    from mmrl.core.config import InputError, load
    from mmrl.engine.launch import command_of, environment_of, exchange_folder
    from mmrl.engine.served import Served
    from mmrl.engine.settings import VllmSettings
    from mmrl.model.loading import check_architecture, local

    given = load(VllmSettings, None, [f"arguments.{one}" for one in arguments or ()])
    settings = given.model_copy(update={"python": python, "exchange": exchange})
    path = local(model)
    check_architecture(path)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    served = Served(
        path.resolve(),
        config.model_type,
        config.get_text_config().vocab_size,
        dtype=dtype or str(config.dtype or "float32").removeprefix("torch."),
        lora_rank=lora_rank,
        tower=tower,
    )
    command = command_of(settings, served, port, cpu=not torch.cuda.is_available())
    environment = environment_of(settings, exchange_folder(settings, Path(f"serve-{port}")))
    print(f"serving {path}; in a config: engine: vllm, vllm: {{base_url: http://127.0.0.1:{port}}}", flush=True)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise InputError(f"--python {python}: {error.strerror}; name the interpreter that has vLLM") from None
