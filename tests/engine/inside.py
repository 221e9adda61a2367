"""vLLM inside the process, run by an interpreter that has it: `python -m tests.engine.inside DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from mmrl.core.vision import VisionBudget
from mmrl.engine.inside import InsideEngine
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from tests.engine.test_real_vllm import tiny
from tests.engine.test_remote import assert_agrees, changed
from tests.support.training import questions


def main(place: Path) -> None:
    budget = VisionBudget(
        min_pixels=784, max_pixels=56 * 56, fps=2.0, min_frames=2, max_frames=8, total_pixels=8 * 56 * 56
    )
    policy = tiny("qwen3_vl", place / "model", budget)
    samples = list(questions("tipv", place / "media"))
    settings = VllmSettings(inside=True, arguments={"max_model_len": 1024})
    vocabulary = policy[0].get_output_embeddings().weight.shape[0]
    served = Served(place / "model", "qwen3_vl", vocabulary, dtype="float32")
    engine = InsideEngine(settings, served, place / "engine.log", cpu=True)
    for step, pushed in enumerate([policy, changed(policy, 1), changed(policy, 2)]):
        engine.push(pushed[0], str(step))
        assert_agrees(pushed, engine, samples, budget)  # pyright: ignore[reportArgumentType]
        print(f"push {step} agrees")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
