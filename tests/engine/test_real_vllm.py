"""vLLM itself, on a CPU: its server and the engine inside a process agree with transformers, after every push.

`make test-all` installs it beside mmrl's environment, in `.venv-vllm`; MMRL_VLLM_PYTHON names another interpreter.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, with_id
from mmrl.core.config import validate
from mmrl.core.vision import VisionBudget, apply_budget
from mmrl.engine.remote import VllmEngine
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.trainers.callbacks import read_metrics
from tests.conftest import TEXTS
from tests.engine.conftest import adapted_anew
from tests.engine.test_features import of_one_norm
from tests.engine.test_remote import assert_agrees, changed, drawing_of, prompts_of, questions_of
from tests.support.training import VISION, config, questions, rollouts, trained

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("MMRL_VLLM_PYTHON", HERE.parent.parent / ".venv-vllm" / "bin" / "python"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no vLLM at {PYTHON}: make test-all, or set MMRL_VLLM_PYTHON"),
]


def tiny(architecture: str, place: Path, budget: VisionBudget) -> tuple[Any, Any]:
    """A tiny model as vLLM takes it, and its processor; both are saved in `place`."""
    model, processor = tiny_model(architecture, TEXTS, size=TinySize(heads=2))
    of_one_norm(processor)
    model.save_pretrained(place)
    processor.save_pretrained(place)
    apply_budget(processor, budget)
    return model, processor


def engine_of(policy: tuple[Any, Any], checkpoint: Path, log: Path, **served: Any) -> VllmEngine:
    settings = VllmSettings(python=str(PYTHON), arguments={"max_model_len": 1024}, start_deadline=400, deadline=120)
    vocabulary = policy[0].get_output_embeddings().weight.shape[0]
    known = Served(checkpoint, policy[0].config.model_type, vocabulary, dtype="float32", **served)
    return VllmEngine(settings, known, log, cpu=True)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, budget: VisionBudget
) -> Iterator[tuple[tuple[Any, Any], VllmEngine]]:
    place = tmp_path_factory.mktemp("vllm")
    policy = tiny(request.param, place / "model", budget)
    engine = engine_of(policy, place / "model", place / "engine.log")
    yield policy, engine
    engine.close()


def test_the_server_agrees_after_ten_pushes(
    world: tuple[tuple[Any, Any], VllmEngine], mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    policy, engine = world
    engine.push(policy[0], "0")
    assert_agrees(policy, engine, mixed_samples, budget)
    for step in range(1, 11):
        pushed = changed(policy, step)
        engine.push(pushed[0], str(step))
        assert_agrees(pushed, engine, mixed_samples, budget)
    assert not engine.faults


@pytest.mark.parametrize("world", ["qwen3_vl"], indirect=True)  # a restart takes half a minute
def test_the_server_is_killed_and_answers_with_the_pushed_weights(
    world: tuple[tuple[Any, Any], VllmEngine], mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    policy, engine = world
    pushed = changed(policy, 11)
    engine.push(pushed[0], "11")
    assert engine.own is not None
    assert engine.own.process is not None
    keeper = engine.own.process.pid
    for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    assert_agrees(pushed, engine, mixed_samples, budget)
    assert engine.faults[0].startswith("gone")


def test_adapters_of_the_whole_model_are_swapped_in_place(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    policy = tiny("qwen3_vl", tmp_path / "model", budget)
    engine = engine_of(policy, tmp_path / "model", tmp_path / "engine.log", lora_rank=4, tower=True)
    try:
        for step in range(3):
            with_adapters = adapted_anew(policy, step)
            engine.push(with_adapters[0], str(step))
            assert_agrees(with_adapters, engine, mixed_samples, budget)
    finally:
        engine.close()


def test_greedy_answers_are_those_of_transformers(
    world: tuple[tuple[Any, Any], VllmEngine], mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    policy, engine = world
    engine.push(policy[0], "12")
    prompts, drawing = prompts_of(policy, mixed_samples, budget), drawing_of(policy, temperature=0.0)
    first, again = (engine.completions(questions_of(policy, prompts), drawing) for _ in range(2))
    assert first == again


def test_vllm_inside_the_process_agrees(tmp_path: Path) -> None:
    """In the interpreter that has vLLM; text, pictures, several, videos; two pushes from memory."""
    line = [str(PYTHON), "-m", "tests.engine.inside", str(tmp_path)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("agrees") == 3, done.stdout


def test_a_training_with_vllm_agrees_at_every_step_and_ahead(tmp_path: Path) -> None:
    """Text, a picture, two pictures and a video; the server is the run's own."""
    settings = {"python": str(PYTHON), "arguments": {"max_model_len": 1024}, "check_every": 1}
    grpo = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 8}
    world = tmp_path / "world"
    write_dataset(questions("tivp", world / "media"), world / "data")
    tiny("qwen2_5_vl", world / "model", VisionBudget.model_validate(VISION))
    for ahead in (0, 1):
        rollout = {"engine": "vllm", "vllm": settings, "ahead": ahead}
        out = trained(config(world, tmp_path / f"ahead{ahead}.yaml", grpo=grpo, rollout=rollout), timeout=900)
        gaps = [line["engine/gap"] for line in read_metrics(out / "metrics.jsonl") if "engine/gap" in line]
        assert len(gaps) >= 4 - ahead
        assert max(gaps) < 1e-4
        drawn_at = [{row["drawn_at"] for row in rows} for rows in rollouts(out).values()]
        assert drawn_at == [{max(step - ahead, 0)} for step in range(4)]
        assert (out / "final" / "model.safetensors").exists()


def test_an_evaluation_by_vllm_is_that_by_the_model_in_this_process(
    mixed_samples: list[Sample], tmp_path: Path
) -> None:
    from eval.config import EvalConfig
    from eval.run import run

    vision = {"min_pixels": 784, "max_pixels": 3136, "min_frames": 2, "max_frames": 8, "total_pixels": 25088}
    tiny("qwen3_vl", tmp_path / "model", VisionBudget.model_validate(vision))
    write_dataset([with_id(replace(sample, meta={"split": "test"})) for sample in mixed_samples], tmp_path / "data")
    found = {}
    for engine, more in (
        ("local", {}),
        ("vllm", {"vllm": {"python": str(PYTHON), "arguments": {"max_model_len": 1024}}}),
    ):
        values = {"model": str(tmp_path / "model"), "data": {"path": str(tmp_path / "data")}, "vision": vision}
        values |= {"rewards": {"format": {"fn": "think_format"}}, "out": str(tmp_path / engine), "engine": engine}
        values |= {"sampling": {"max_new_tokens": 16}, **more}
        found[engine] = {
            r.item_id: (r.response, r.tokens, r.flags, r.seen_size)
            for r in run(validate(EvalConfig, values, where="test"))
        }
    assert len(found["local"]) == len(mixed_samples)
    assert found["local"] == found["vllm"]
