"""Our client of vLLM: answers are those of the pushed weights, whatever happens to the server; others are refused."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from mmrl.core.config import InputError, RunError, validate
from mmrl.core.vision import VisionBudget
from mmrl.engine.asking import Drawing, Question
from mmrl.engine.client import Client
from mmrl.engine.features import FeatureWriter
from mmrl.engine.launch import command_of, environment_of
from mmrl.engine.remote import VllmEngine
from mmrl.engine.served import Served
from mmrl.engine.settings import VllmSettings
from mmrl.model.encoding import Encoded, encode
from mmrl.model.inputs import media_inputs
from mmrl.model.sampling import vision_token_ids
from tests.engine.conftest import adapted_anew, engine_at, vocabulary
from tests.support.engine_server import COMMAND, serving

Policy = tuple[Any, Any]


def drawing_of(policy: Policy, **changes: Any) -> Drawing:
    model, processor = policy
    ends = (model.generation_config.eos_token_id,)
    banned = tuple(vision_token_ids(model.config, processor))
    return Drawing(**{"length": 8, "ends": ends, "banned": banned, **changes})


def prompts_of(policy: Policy, samples: list[Sample], budget: VisionBudget) -> list[Encoded]:
    return [encode(policy[1], sample.prompt, sample.media, budget) for sample in samples]


def questions_of(policy: Policy, prompts: list[Encoded], n: int = 1) -> list[Question]:
    writer = FeatureWriter(policy[0].config, policy[1])
    return [Question(prompt.input_ids, writer(prompt), n, seed) for seed, prompt in enumerate(prompts)]


def logprobs_of(model: Any, prompt: Encoded, said: list[int], drawing: Drawing) -> torch.Tensor:
    """The model's own log-probs of `said`, without the banned tokens."""
    ids = torch.tensor([prompt.input_ids + said])
    with torch.no_grad():
        logits = model(input_ids=ids, **media_inputs([prompt], ids, model, completion=len(said))).logits[0]
    logits[:, list(drawing.banned)] = -torch.inf
    predicted = (logits[len(prompt.input_ids) - 1 : -1] / drawing.temperature).log_softmax(dim=-1)
    return predicted.gather(1, torch.tensor(said)[:, None])[:, 0]


def assert_agrees(policy: Policy, engine: VllmEngine, samples: list[Sample], budget: VisionBudget) -> None:
    drawing = drawing_of(policy)
    prompts = prompts_of(policy, samples, budget)
    for prompt, answers in zip(prompts, engine.completions(questions_of(policy, prompts, 2), drawing), strict=True):
        assert len({tuple(answer.ids) for answer in answers}) == 2
        for answer in answers:
            assert answer.ended or len(answer.ids) == 8
            own = logprobs_of(policy[0], prompt, answer.ids, drawing)
            assert (own - torch.tensor(answer.logprobs)).abs().max() < 1e-4


def changed(policy: Policy, seed: int) -> Policy:
    """The policy with other weights, in all of its parts."""
    model = copy.deepcopy(policy[0])
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model, policy[1]


def test_answers_agree_with_the_trainer_after_every_push(
    server: Client, checkpoint: Path, policy: Policy, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    engine = engine_at(server, checkpoint, tmp_path)
    engine.push(policy[0], "0")
    assert_agrees(policy, engine, mixed_samples, budget)
    for step in range(1, 4):
        pushed = changed(policy, step)
        engine.push(pushed[0], str(step))
        assert_agrees(pushed, engine, mixed_samples, budget)
    assert not engine.faults
    engine.close()
    assert not engine.exchange.exists()


def test_adapters_are_swapped_in_place(
    server: Client, checkpoint: Path, policy: Policy, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    engine_at(server, checkpoint, tmp_path / "base").push_directory(checkpoint, "0")
    engine = engine_at(server, checkpoint, tmp_path, lora_rank=4)
    for step in range(2):
        with_adapters = adapted_anew(policy, step)
        engine.push(with_adapters[0], str(step))
        assert_agrees(with_adapters, engine, mixed_samples, budget)


@pytest.mark.parametrize(
    ("claims", "changes", "message"),
    [
        ({"version": "0.31.2"}, {}, r"is vLLM 0\.31\.2; requests are known for 0\.32\.\*: install that version"),
        (
            {"model_type": "qwen3_vl"},
            {},
            "has model type qwen3_vl, and qwen2_5_vl is needed; start it with `mmrl serve",
        ),
        ({"vocabulary": 300}, {}, r"has vocabulary 300, and \d+ is needed"),
        ({"dtype": "bfloat16"}, {}, "has dtype bfloat16, and float32 is needed"),
        ({"logprobs": "raw_logprobs"}, {}, "has logprobs_mode raw_logprobs, and processed_logprobs is needed"),
        ({"lora": 0}, {"lora_rank": 16}, "takes adapters up to rank 0 .*, lora.r is 16; .*--lora-rank 16"),
    ],
)
def test_a_server_of_something_else_is_refused(
    server: Client,
    checkpoint: Path,
    policy: Policy,
    claims: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    server.told("disturb", "", claims)
    engine = engine_at(server, checkpoint, tmp_path, **changes)
    with pytest.raises(InputError, match=message) as refusal:
        engine.push_directory(checkpoint, "0")
    assert len(str(refusal.value)) <= 500


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("count", "gave 4 answers and was asked for 2"),
        ("logprobs", "8 tokens with 7 log-probs"),
        ("nan", "gave the log-prob nan; a log-prob is a number of at most 0"),
        ("token", r"drew the token 1000000, which is banned or not among the model's \d+"),
        ("cut", "gave an answer of 1 tokens without an end; asked for: up to 8 tokens"),
        ("chat", "gave no tokens with log-probs and weight versions .*hello.*start the server with `mmrl serve`"),
    ],
)
def test_a_lying_answer_is_refused(
    server: Client,
    checkpoint: Path,
    policy: Policy,
    fault: str,
    message: str,
    mixed_samples: list[Sample],
    budget: VisionBudget,
    tmp_path: Path,
) -> None:
    engine = engine_at(server, checkpoint, tmp_path)
    engine.push_directory(checkpoint, "0")
    server.told("disturb", fault)
    asked = questions_of(policy, prompts_of(policy, mixed_samples[:1], budget), 2)
    with pytest.raises(InputError, match=message) as refusal:
        engine.completions(asked, drawing_of(policy, ends=(0,)))
    assert len(str(refusal.value)) <= 500


def test_answers_of_other_weights_are_never_taken(
    server: Client, checkpoint: Path, policy: Policy, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """Another run pushes its weights meanwhile: ours are pushed again. One that goes on doing so stops the run."""
    engine = engine_at(server, checkpoint, tmp_path)
    engine.push(policy[0], "0")
    engine_at(server, checkpoint, tmp_path / "other").push(changed(policy, 1)[0], "0")
    assert_agrees(policy, engine, mixed_samples[:2], budget)
    assert re.search("answers with the weights .*:0, pushed were .*:0", engine.faults[0])
    server.told("disturb", "weights")
    asked = questions_of(policy, prompts_of(policy, mixed_samples[:1], budget))
    with pytest.raises(RunError, match=r"the engine failed 4 times in a row, last: forgot: .*another"):
        engine.completions(asked, drawing_of(policy))


def test_a_prompt_beyond_the_engines_context_is_refused_before_it_is_sent(
    server: Client, checkpoint: Path, policy: Policy, tmp_path: Path
) -> None:
    engine = engine_at(server, checkpoint, tmp_path)
    engine.push_directory(checkpoint, "0")
    server.told("disturb")
    message = "a prompt of 4090 tokens with 8 new ones does not fit the engine's max_model_len of 4096; raise"
    with pytest.raises(InputError, match=message):
        engine.completions([Question([9] * 4090, None)], drawing_of(policy))
    assert server.told("answered") == 0
    with pytest.raises(InputError, match="refuses the request with status 400"):
        server.generated({"model": "policy", "token_ids": [9] * 5000})


def test_an_address_where_nobody_listens_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    nobody = Client("http://127.0.0.1:9", 1)
    with pytest.raises(
        InputError, match=r"no engine answers at http://127\.0\.0\.1:9; start it with `mmrl serve MODEL`"
    ):
        engine_at(nobody, checkpoint, tmp_path).push_directory(checkpoint, "0")


def test_a_server_of_others_that_stays_away_stops_the_run(
    server: Client, checkpoint: Path, policy: Policy, tmp_path: Path
) -> None:
    engine = engine_at(server, checkpoint, tmp_path, start_deadline=0.2)
    engine.push_directory(checkpoint, "0")
    engine.client = Client("http://127.0.0.1:9", 1)
    with pytest.raises(RunError, match=r"no engine answers at http://127\.0\.0\.1:9 since 0\.2 s .* it resumes from"):
        engine.completions([Question([9], None)], drawing_of(policy))


def own_engine(checkpoint: Path, tmp_path: Path, **changes: Any) -> VllmEngine:
    settings = {"command": COMMAND, "deadline": 3, "start_deadline": 60, "exchange": tmp_path / "exchange"}
    served = Served(checkpoint, "qwen2_5_vl", vocabulary(checkpoint), dtype="float32")
    return VllmEngine(VllmSettings.model_validate(settings | changes), served, tmp_path / "engine.log", cpu=True)


@pytest.mark.parametrize("fault", ["gone", pytest.param("stalled", marks=pytest.mark.slow)])
def test_our_own_server_is_started_restarted_and_ended(
    checkpoint: Path,
    policy: Policy,
    fault: str,
    mixed_samples: list[Sample],
    budget: VisionBudget,
    tmp_path: Path,
) -> None:
    """In the middle of a batch it dies, or stalls: answers are those of an undisturbed one, of the pushed weights."""
    engine, drawing = own_engine(checkpoint, tmp_path), drawing_of(policy)
    pushed = changed(policy, 1)
    engine.push(pushed[0], "3")
    asked = questions_of(policy, prompts_of(policy, mixed_samples, budget), 2)
    whole = engine.completions(asked, drawing)
    engine.client.told("disturb", *(["", None, 2] if fault == "gone" else ["stall"]))
    assert engine.completions(asked, drawing) == whole
    assert [one.partition(":")[0] for one in engine.faults] == [fault]
    assert_agrees(pushed, engine, mixed_samples[:1], budget)
    address = engine.client.address
    engine.close()
    assert not Client(address, 1).healthy()


def test_a_reply_that_does_not_come_is_asked_for_again(
    server: Client, checkpoint: Path, policy: Policy, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    engine = engine_at(server, checkpoint, tmp_path, deadline=2)
    engine.push_directory(checkpoint, "0")
    asked = questions_of(policy, prompts_of(policy, mixed_samples, budget), 2)
    whole = engine.completions(asked, drawing_of(policy))
    server.told("disturb", "stall")
    assert engine.completions(asked, drawing_of(policy)) == whole
    assert re.fullmatch(r"stalled: no reply from .*/inference/v1/generate within 2 s", engine.faults[0])


def test_a_server_that_cannot_start_says_why(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no GPU here')"]
    with pytest.raises(
        RunError, match=r"the engine did not start \(status 1\): \.\.\.no GPU here \(more in .*engine.log"
    ):
        own_engine(checkpoint, tmp_path, command=command).push_directory(checkpoint, "0")
    slow = own_engine(checkpoint, tmp_path, command=["sleep", "60"], start_deadline=0.3)
    with pytest.raises(RunError, match=r"the engine was not ready after 0\.3 s \(vllm.start_deadline\)"):
        slow.push_directory(checkpoint, "0")


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from pathlib import Path
from mmrl.engine.server import OwnServer
command = ["sh", "-c", f"echo $$ > {sys.argv[1]}; sleep 600"]
server = OwnServer(lambda port: command, os.environ, Path(sys.argv[2]), deadline=60)
threading.Timer(1.0, lambda: os.kill(os.getpid(), 9)).start()
server.start()
"""
    place = tmp_path / "pid"
    assert subprocess.run([sys.executable, "-c", code, str(place), str(tmp_path / "log")], timeout=60).returncode == -9
    until = time.monotonic() + 10
    while Path(f"/proc/{place.read_text().strip()}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{place.read_text().strip()}").exists()


@pytest.mark.slow
def test_a_server_of_others_is_waited_for(
    checkpoint: Path, policy: Policy, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    with serving(checkpoint, tmp_path / "engine.log") as server:
        port = server.address.rpartition(":")[2]
        engine = engine_at(server, checkpoint, tmp_path, start_deadline=60)
        engine.push(policy[0], "0")
        server.told("disturb", "", None, 1)
        asked = questions_of(policy, prompts_of(policy, mixed_samples[:3], budget))
        again = [part.format(model=checkpoint, port=port) for part in COMMAND]
        started: list[subprocess.Popen[bytes]] = []
        threading.Timer(1.0, lambda: started.append(subprocess.Popen(again))).start()
        try:
            assert len(engine.completions(asked, drawing_of(policy))) == 3
        finally:
            started[0].kill()
            started[0].wait()
        assert engine.faults


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(
        InputError, match="base_url names a server that runs already, arguments would start another engine"
    ):
        validate(VllmSettings, {"base_url": "http://a:1", "arguments": {"x": 1}}, where="config")
    with pytest.raises(InputError, match="base_url"):
        validate(VllmSettings, {"base_url": "a:1"}, where="config")
    settings = VllmSettings(arguments={"model": "other", "max_model_len": 9})
    with pytest.raises(InputError, match=r"vllm\.arguments: model is set by mmrl; leave it out"):
        command_of(settings, Served(Path("m"), "qwen3_vl", 9), 1, cpu=True)


def test_a_number_is_a_value_of_an_environment_variable(tmp_path: Path) -> None:
    settings = validate(VllmSettings, {"environment": {"OMP_NUM_THREADS": 1}}, where="config")
    assert environment_of(settings, tmp_path)["OMP_NUM_THREADS"] == "1"


def test_the_command_line_of_vllm() -> None:
    settings = VllmSettings(python="py", arguments={"max_model_len": 9, "enforce_eager": False, "override": {"a": 1}})
    served = Served(Path("m"), "qwen3_vl", 9, dtype="bfloat16", lora_rank=4, tower=True)
    line = command_of(settings, served, 7, cpu=False)
    assert line[:3] == ["py", "-m", "vllm.entrypoints.openai.api_server"]
    text = " ".join(line[3:])
    for words in (
        "--model m",
        "--port 7",
        "--host 127.0.0.1",
        "--dtype bfloat16",
        "--logprobs-mode processed_logprobs",
    ):
        assert words in text
    assert text.endswith(f"--max-model-len 9 --no-enforce-eager --override {json.dumps({'a': 1})}")
    assert "--enable-lora --max-lora-rank 8" in text
    assert "--enable-tower-connector-lora" in text
    assert "--block-size" not in text
