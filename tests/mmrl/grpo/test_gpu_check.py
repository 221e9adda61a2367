"""`make gpu-check`: the script itself, on a CPU with a tiny model; and what it says where there is no accelerator."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch


def checked(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.gpu_check", *arguments]
    return json.loads(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()[-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_without_an_accelerator_nothing_is_checked() -> None:
    assert checked() == {"device": None, "checks": [], "note": "no accelerator here: nothing was checked"}


def test_every_check_runs_on_a_cpu() -> None:
    found: dict = checked("--device", "cpu", "--tiny")
    names = [row["check"] for row in found["checks"]]
    assert names[0] == "bfloat16"
    assert {"attention sdpa", "scoring, 16 new tokens", "scoring, 32 new tokens", "rollouts, 2 new tokens"} <= set(
        names
    )
    assert [row for row in found["checks"] if not row["ok"]] == []
    assert all(row["mean_gap"] < 1e-5 for row in found["checks"] if row["check"].startswith("scoring"))
