"""What runs on this machine's accelerator, and what sharing prompts gains there: one JSON in at most eight minutes.

    python -m benchmarks.gpu_check [--json FILE] [--device cpu --tiny]

Every check has a row: bfloat16; the kinds of attention that are installed; packed rows against plain ones (log-probs,
seconds and memory) at 1,024 and 4,096 new tokens, with a random Qwen2.5-VL of half a billion parameters; a shared cache
against a copied one; and a rollout by vLLM where it can be imported. A check that fails has `"ok": false` and says why,
and the exit status is 1. Without an accelerator nothing is checked, and the exit status is 0. `--device cpu --tiny`
runs the same code on a CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.grpo_step import Case, ours
from benchmarks.long_completions import sampling, scoring
from mmrl.model.tiny_twins import TinySize

HALF_BILLION = TinySize(hidden=1024, layers=28, heads=16, mlp=4096, vision_hidden=256, vision_layers=8, vision_heads=4)
TINY = TinySize(hidden=64, layers=2, heads=2, mlp=128)
ATTENTION = ("sdpa", "flash_attention_2", "flash_attention_3")
HALF_GAP = 0.05  # mean distance of log-probs that bfloat16 may cause


def main() -> None:
    """Run the checks and print one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few tokens, to try the script itself")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"device": None, "checks": [], "note": "no accelerator here: nothing was checked"}))
        return
    result = {"device": device(arguments.device), "checks": checks(arguments.device, tiny=arguments.tiny)}
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(any(not row["ok"] for row in result["checks"]))


def device(kind: str) -> dict[str, Any]:
    """The accelerator and the versions that matter."""
    import transformers
    import trl

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
    }
    if kind != "cuda":
        return {"name": platform.machine(), **found}
    properties = torch.cuda.get_device_properties(0)
    gigabytes, capability = properties.total_memory / 2**30, f"{properties.major}.{properties.minor}"
    return {
        "name": properties.name,
        "GiB": round(gigabytes, 1),
        "capability": capability,
        "cuda": torch.version.cuda,
        **found,
    }


def checks(kind: str, *, tiny: bool) -> list[dict[str, Any]]:
    """A row per check."""
    size, lengths = (TINY, (16, 32)) if tiny else (HALF_BILLION, (1024, 4096))
    vision = 16 if tiny else 256
    rows = [row("bfloat16", lambda: bfloat16(kind))]
    rows += [row(f"attention {name}", lambda name=name: attention(name, kind)) for name in ATTENTION if installed(name)]
    for new in lengths:
        case = Case(8, vision, 1, new)
        rows.append(row(f"scoring, {new} new tokens", lambda case=case: shared("score", case, size, kind)))
    case = Case(16, vision, 2, lengths[0] // 8)
    rows.append(row(f"rollouts, {case.new_tokens} new tokens", lambda: shared("rollouts", case, size, kind)))
    if importlib.util.find_spec("vllm"):
        rows.append(row("vllm", vllm_rollout))
    return rows


def row(name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a check found, with its seconds; an error is a failed check, whatever it is."""
    start = time.perf_counter()
    try:
        found = {"ok": True, **check()}
    except Exception as error:
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
    print(f"{name}: {found}", file=sys.stderr, flush=True)
    return {"check": name, "seconds_of_check": round(time.perf_counter() - start, 1), **found}


def installed(attention: str) -> bool:
    """Whether transformers can use a kind of attention here."""
    from transformers.utils import import_utils

    tests = {
        "flash_attention_2": import_utils.is_flash_attn_2_available,
        "flash_attention_3": import_utils.is_flash_attn_3_available,
    }
    return attention not in tests or bool(tests[attention]())


def bfloat16(kind: str) -> dict[str, Any]:
    """A matrix product in bfloat16 against one in float64."""
    left, right = (torch.randn(512, 512, device=kind) for _ in range(2))
    exact = left.double() @ right.double()
    error = ((left.bfloat16() @ right.bfloat16()).double() - exact).norm() / exact.norm()
    return {"ok": bool(error < 1e-2), "relative_error": float(error)}


def attention(name: str, kind: str) -> dict[str, Any]:
    """The logits of a small Qwen2.5-VL in bfloat16 by one kind of attention, against eager attention in float32."""
    from mmrl.model.tiny_twins import tiny_model

    size, logits = TinySize(hidden=256, layers=4, heads=4, mlp=512), []
    for how, dtype in (("eager", torch.float32), (name, torch.bfloat16)):
        model, processor = tiny_model("qwen2_5_vl", ["some words"], size=size)
        model.set_attn_implementation(how)
        ids = processor.tokenizer(["some words " * 16] * 2, return_tensors="pt")["input_ids"].to(kind)  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            logits.append(model.to(kind, dtype)(input_ids=ids).logits.float().log_softmax(-1))  # pyright: ignore[reportArgumentType, reportCallIssue]
    gap = float((logits[0] - logits[1]).abs().mean())
    return {"ok": gap < HALF_GAP, "mean_gap": gap}


def shared(what: str, case: Case, size: TinySize, kind: str) -> dict[str, Any]:
    """Seconds and memory of a shared prompt over those of rows of their own; log-probs of both, for scoring."""
    measured = []
    for share in (True, False):
        with tempfile.TemporaryDirectory() as directory:
            trainer = ours(case, Path(directory), size=size, use_cpu=kind == "cpu", bf16=kind == "cuda")
            rows = [trainer.generation.encode(row) for row in trainer.train_dataset]
            rows = [row for row in rows for _ in range(case.group)]
            work = (scoring if what == "score" else sampling)(trainer, rows, case, shared=share)
            measured.append(timed(work, kind))
            del trainer, work
    (ours_s, ours_mb, ours_out), (plain_s, plain_mb, plain_out) = measured
    found = {
        "seconds": ours_s,
        "plain_seconds": plain_s,
        "ratio": ours_s / plain_s,
        "MB": ours_mb,
        "plain_MB": plain_mb,
    }
    if what == "rollouts":
        return found
    gap = float((ours_out - plain_out).abs().mean())
    return {**found, "ok": math.isfinite(gap) and gap < HALF_GAP, "mean_gap": gap}


def timed(work: Callable[[], Any], kind: str) -> tuple[float, float | None, Any]:
    """(median seconds of three runs after one, peak MB, what the last run gave)."""
    seconds, result = [], work()
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        synchronized(kind)
        start = time.perf_counter()
        result = work()
        synchronized(kind)
        seconds.append(time.perf_counter() - start)
    megabytes = torch.cuda.max_memory_allocated() / 2**20 if kind == "cuda" else None
    return sorted(seconds)[1], megabytes, result


def synchronized(kind: str) -> None:
    """Wait for the device."""
    if kind == "cuda":
        torch.cuda.synchronize()


def vllm_rollout() -> dict[str, Any]:
    """Greedy tokens of a small saved Qwen2.5-VL by vLLM and by transformers."""
    from mmrl.model.tiny_twins import tiny_model

    vllm: Any = importlib.import_module("vllm")
    model, processor = tiny_model("qwen2_5_vl", ["some words"], size=TinySize(hidden=256, layers=4, heads=4, mlp=512))
    ids = [processor.tokenizer(text)["input_ids"] for text in ("some words some", "words")]  # pyright: ignore[reportAttributeAccessIssue]
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        processor.save_pretrained(directory)
        engine = vllm.LLM(directory, dtype="float32", enforce_eager=True, gpu_memory_utilization=0.2, max_model_len=512)
        settings = vllm.SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
        outputs = engine.generate([{"prompt_token_ids": row} for row in ids], settings)
    drawn = [list(output.outputs[0].token_ids) for output in outputs]
    plain = []
    for row in ids:
        new = model.generate(torch.tensor([row]), max_new_tokens=16, min_new_tokens=16, do_sample=False)  # pyright: ignore[reportCallIssue]
        plain.append(new[0, len(row) :].tolist())
    same = sum(a == b for mine, theirs in zip(drawn, plain, strict=True) for a, b in zip(mine, theirs, strict=True))
    return {"ok": same == 32, "version": vllm.__version__, "equal_tokens": f"{same} of 32"}


if __name__ == "__main__":
    main()
