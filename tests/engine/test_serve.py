"""`mmrl serve` starts vLLM as training and evaluation want it, or says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mmrl", "serve", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_becomes_a_server(checkpoint: Path, tmp_path: Path) -> None:
    """In place of the interpreter a script says what it was asked, and which worker it could import."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho $VLLM_SERVER_DEV_MODE ${PYTHONPATH%%:*}; ls ${PYTHONPATH%%:*}; echo "$@"\n')
    script.chmod(0o755)
    asked = ["--port", "8123", "--lora-rank", "4", "--exchange", str(tmp_path / "x"), "max_model_len=99"]
    done = serve(str(checkpoint), "--python", str(script), *asked)
    assert done.returncode == 0, done.stderr
    about, place, worker, words = done.stdout.splitlines()
    assert "engine: vllm, vllm: {base_url: http://127.0.0.1:8123}" in about
    assert place.startswith(f"1 {tmp_path / 'x'}{os.sep}mmrl-engine-")
    assert worker == "mmrl_worker.py"
    assert "--worker-extension-cls mmrl_worker.MmrlWorker" in words
    assert f"--model {checkpoint}" in words
    assert "--dtype float32" in words
    assert "--max-lora-rank 8" in words
    assert words.endswith("--max-model-len 99")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--python", "/no/python"], "--python /no/python: No such file or directory; name the interpreter"),
        (["dtype=auto"], "vllm.arguments: dtype is set by mmrl; leave it out"),
        (["max_model_len"], "override 'arguments.max_model_len' is not of the form key=value"),
    ],
)
def test_what_cannot_be_served_is_refused(
    checkpoint: Path, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmrl.cli import VERBS, run

    with pytest.raises(SystemExit) as done:
        run("mmrl serve", VERBS["serve"][0], [str(checkpoint), "--exchange", str(tmp_path), *arguments])
    assert done.value.code == 2
    assert message in capsys.readouterr().err


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmrl.cli import VERBS, run

    with pytest.raises(SystemExit):
        run("mmrl serve", VERBS["serve"][0], [str(tmp_path)])
    assert "no checkpoint at" in capsys.readouterr().err
