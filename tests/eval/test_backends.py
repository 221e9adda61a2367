"""Engines: a replay, the answer cache, several processes; and judges in an evaluation."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample
from eval.answer.answer_cache import CachedGenerator
from eval.generation import Draw
from eval.records import read_records, read_run
from eval.report import report
from eval.run import EvalConfig, run
from eval.score import rescore
from mmrl.core.config import InputError, validate
from mmrl.model.tiny_twins import tiny_model
from mmrl.trainers.dataset import as_dataset, training_samples
from tests.conftest import TEXTS
from tests.support.judge_server import Reply, serving, verdict

FORM: dict[str, Any] = {"form": {"fn": "tag_format"}}


def config(dataset: Path, out: Path, **changes: Any) -> EvalConfig:
    values = {"data": {"path": str(dataset)}, "rewards": FORM, "out": str(out), "space": "pixel", **changes}
    return validate(EvalConfig, values, where="test")


def chat(text: str, finish: str = "stop") -> Reply:
    reply = {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": {"completion_tokens": 5}}
    return Reply(body=json.dumps(reply).encode())


def served(url: str, **settings: Any) -> dict[str, Any]:
    return {
        "engine": "openai",
        "model": "served",
        "server": {"base_url": url, "backoff": 0.01, "videos": "frames", **settings},
    }


def test_a_run_that_made_no_record_binds_nothing(dataset: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "answers.jsonl", tmp_path / "run"
    file.write_text(json.dumps({"id": "another", "response": "7"}) + "\n")
    with pytest.raises(InputError, match="holds no answer"):
        run(config(dataset, out, engine="replay", model=str(file)))
    assert (out / "run.json").is_file()
    file.write_text("".join(json.dumps({"id": s.id, "response": "7"}) + "\n" for s in read_samples(dataset)))
    records = run(config(dataset, out, engine="replay", model=str(file), blind=True))
    assert {record.response for record in records} == {"7"}


def test_a_picture_that_was_replaced_under_its_name_is_neither_asked_about_nor_trained_on(
    dataset: Path, tmp_path: Path
) -> None:
    built, file = shutil.copytree(dataset, tmp_path / "built"), tmp_path / "answers.jsonl"
    samples = list(read_samples(built))
    file.write_text("".join(json.dumps({"id": sample.id, "response": "7"}) + "\n" for sample in samples))
    pictures = sorted({item.path for sample in samples for item in sample.media if item.kind == "image" and item.path})
    Path(pictures[0]).write_bytes(Path(pictures[1]).read_bytes())
    with pytest.raises(InputError, match=f"{pictures[0]} is not what was recorded"):
        run(config(built, tmp_path / "run", engine="replay", model=str(file), blind=True))
    rows = as_dataset(training_samples(built, "test"))
    with pytest.raises(InputError, match=f"{pictures[0]} is not what was recorded"):
        list(rows)


def test_a_replay_gives_the_same_answers_and_names_what_is_missing(dataset: Path, tmp_path: Path) -> None:
    with serving(lambda body: chat("<answer>7</answer>")) as server:
        first = run(config(dataset, tmp_path / "first", **served(server.url)))
    again = run(config(dataset, tmp_path / "again", engine="replay", model=str(tmp_path / "first")))
    assert [(r.item_id, r.response, r.seen_size) for r in again] == sorted(
        (r.item_id, r.response, r.seen_size) for r in first
    )
    lines = [json.dumps({"id": record.item_id, "response": "no"}) for record in first]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(lines))
    assert {r.response for r in run(config(dataset, tmp_path / "c", engine="replay", model=str(file)))} == {"no"}
    for content, message in (
        (lines[:-1], "holds no answer to 1 of 5 draws"),
        ([*lines, lines[0]], "line 6: a second answer"),
        (['{"id": "a"}'], "line 1: expected"),
        (['{"id": ["a"], "response": "no"}'], "line 1: expected"),
        (['{"id": 1, "response": "no"}', '{"id": "a", "response": "no"}'], "line 1: expected"),
    ):
        file.write_text("\n".join(content))
        with pytest.raises(InputError, match=message):
            run(config(dataset, tmp_path / "d", engine="replay", model=str(file)))


def test_the_cache_answers_what_was_asked_and_knows_other_media(
    dataset: Path, tmp_path: Path, mixed_samples: list[Sample]
) -> None:
    cache = str(tmp_path / "cache.sqlite")
    with serving(lambda body: chat("7")) as server:
        first = run(config(dataset, tmp_path / "a", cache=cache, **served(server.url)))
        again = run(config(dataset, tmp_path / "b", cache=cache, **served(server.url)))
        assert len(server.bodies) == len(first) == 5
        run(config(dataset, tmp_path / "c", cache=cache, sampling={"max_new_tokens": 9}, **served(server.url)))
        assert len(server.bodies) == 10
    assert [r.response for r in again] == [r.response for r in first]

    cached = CachedGenerator(lambda draws: [], tmp_path / "other.sqlite", {})  # pyright: ignore[reportArgumentType]
    picture, other = mixed_samples[1], mixed_samples[2]
    assert cached._key(Draw(picture)) != cached._key(Draw(replace(picture, media=other.media[1:])))


def test_judges_score_in_an_evaluation_and_in_its_rescoring(dataset: Path, tmp_path: Path) -> None:
    def script(body: dict[str, Any]) -> Reply | str:
        return chat("an answer") if body["model"] == "served" else verdict(body, score=5, reason="good")

    with serving(script) as server:
        judges = {"local": {"base_url": server.url, "model": "wise"}}
        rewards = {"judge_quality": {"fn": "judge", "args": {"judge": "local"}}}
        settings = {"rewards": rewards, "judges": judges, **served(server.url)}
        records = run(config(dataset, tmp_path / "out", **settings))
        rows = report(tmp_path / "out")["rows"]
        assert rescore(tmp_path / "out") == records
    assert all(record.scores["judge_quality"] is not None for record in records)
    assert rows[0]["reward"] == "total"
    info = read_run(tmp_path / "out")
    assert info.suite["judges"]["local"]["model"] == "wise"

    def under(**changes: Any) -> str:
        judge = {**info.suite["judges"]["local"], **changes}
        return replace(info, suite={**info.suite, "judges": {"local": judge}}).scorer

    assert under(concurrency=1, base_url="http://elsewhere/v1") == info.scorer
    assert under(model="wiser") != info.scorer


def test_an_unknown_judge_is_refused_before_the_run(dataset: Path, tmp_path: Path) -> None:
    rewards = {"quality": {"fn": "judge", "args": {"judge": "local"}}}
    with pytest.raises(InputError, match="unknown judge 'local'"):
        run(config(dataset, tmp_path / "out", rewards=rewards, **served("http://127.0.0.1:1/v1")))


def test_decode_fits_engine_and_sampling(dataset: Path, tmp_path: Path) -> None:
    decode = {"method": "self_consistency", "n": 2}
    with pytest.raises(InputError, match="set engine: local"):
        config(dataset, tmp_path, decode=decode, **served("http://127.0.0.1:1/v1"))
    with pytest.raises(InputError, match="do_sample: true"):
        config(dataset, tmp_path, decode=decode, model="m")


def test_two_processes_write_the_records_of_one(dataset: Path, tmp_path: Path, budget: Any) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    decode = {"method": "best_of_n", "n": 2, "rewards": FORM}
    shared: dict[str, Any] = {
        "model": str(tmp_path / "model"),
        "vision": budget.model_dump(),
        "batch_size": 1,
        "decode": decode,
        "rewards": {**FORM, "rank": {"fn": "tests.support.lab:rank", "weight": 0.0}},
        "sampling": {"do_sample": True, "max_new_tokens": 4},
    }
    alone = run(config(dataset, tmp_path / "one", **shared))
    assert all(record.spent["generated"] >= record.tokens for record in alone)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config(dataset, tmp_path / "two", **shared).model_dump(mode="json")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, "-m", "eval", "run", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    together = read_records(tmp_path / "two")
    assert [(answer.key, answer.response, answer.spent) for answer in together] == [
        (answer.key, answer.response, answer.spent) for answer in alone
    ]
    assert {record.scores["rank"] for record in together} == {0.0, 1.0}
    assert not list((tmp_path / "two").glob("*.part.jsonl"))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
