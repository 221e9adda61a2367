"""Whole runs: a dataset directory and a tiny checkpoint in, records and a report out."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from eval.records import RECORDS, RUN, read_records, read_run
from eval.report import report
from eval.run import EvalConfig, run
from eval.score import rescore
from mmrl.commands.eval import app
from mmrl.core.config import InputError, load, validate
from mmrl.core.locks import alone
from mmrl.core.vision import VisionBudget
from mmrl.model.loading import fingerprint
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS

REWARDS = {
    "accuracy": {"fn": "box_iou", "tasks": ["grounding"]},
    "number": {"fn": "number_match", "tasks": ["count"]},
    "span": {"fn": "span_iou", "tasks": ["temporal"]},
    "yesno": {"fn": "yesno_match", "tasks": ["yesno"]},
    "format": {"fn": "think_format", "weight": 0.2},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


@pytest.fixture
def config(checkpoint: Path, tripled: Path, budget: VisionBudget, tmp_path: Path) -> EvalConfig:
    return validate(
        EvalConfig,
        {
            "model": str(checkpoint),
            "data": {"path": str(tripled)},
            "rewards": REWARDS,
            "sampling": {"do_sample": True, "samples": 2, "max_new_tokens": 8},
            "vision": budget.model_dump(),
            "batch_size": 4,
            "out": str(tmp_path / "out"),
        },
        where="test",
    )


def changed(config: EvalConfig, **changes: Any) -> EvalConfig:
    return validate(EvalConfig, {**config.model_dump(mode="json"), **changes}, where="test")


def test_every_draw_has_a_record_with_all_that_made_it(config: EvalConfig, tripled: Path) -> None:
    records = run(config)
    assert len(records) == len({record.key for record in records}) == 5 * 3 * 2
    assert {record.benchmark for record in records} == {"mixed"}
    video = next(record for record in records if record.task == "temporal")
    assert (video.media[0]["kind"], video.media[0]["num_frames"], len(video.media[0]["sha256"])) == ("video", 32, 64)
    assert (video.meta["space"], video.seen_size) == ("resized", [[56, 56]])
    assert set(video.scores) == {"span", "format"}
    info = read_run(Path(config.out))
    assert info.protocol["fingerprint"] == fingerprint(Path(config.model))
    assert info.protocol["decoding"] == "sampled"
    assert {record.protocol for record in records} == {info.protocol_id}


def test_a_rerun_asks_nothing_again(config: EvalConfig) -> None:
    run(config)
    before = (Path(config.out) / RECORDS).read_bytes()
    run(config)
    assert (Path(config.out) / RECORDS).read_bytes() == before


def test_a_second_run_into_a_folder_is_refused(config: EvalConfig) -> None:
    out = Path(config.out)
    with alone(out), pytest.raises(InputError, match=rf"another run \(process {os.getpid()}\) is writing to {out}"):
        run(config)
    run(config)
    with alone(out), pytest.raises(InputError, match="another run"):
        rescore(out)


def test_lines_that_repeat_a_record_count_once_and_are_removed(config: EvalConfig) -> None:
    config = changed(config, sampling={"max_new_tokens": 4})
    records = run(config)
    file = Path(config.out) / RECORDS
    whole, before = file.read_bytes(), report(Path(config.out))
    file.write_bytes(whole + b"".join(whole.splitlines(keepends=True)[:5]))
    assert read_records(Path(config.out)) == records
    assert report(Path(config.out))["rows"] == before["rows"]
    run(config)
    assert file.read_bytes() == whole


def test_rescoring_equals_the_scores_of_the_run(config: EvalConfig) -> None:
    records = run(config)
    assert rescore(Path(config.out)) == records


def test_a_run_cut_at_any_line_ends_with_the_same_records(config: EvalConfig) -> None:
    run(config)
    file = Path(config.out) / RECORDS
    whole = file.read_bytes()
    for cut in (0, len(whole) // 3, len(whole) - 5):
        file.write_bytes(whole[:cut])
        run(config)
        assert file.read_bytes() == whole


def test_a_killed_run_goes_on_and_gives_the_same_report(config: EvalConfig, tmp_path: Path) -> None:
    config = changed(config, batch_size=2)
    whole = run(config)
    killed = changed(config, out=str(tmp_path / "killed"))
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(killed.model_dump(mode="json")))
    program = subprocess.Popen([sys.executable, "-m", "eval", "run", str(file)], stdout=subprocess.DEVNULL)
    written = Path(killed.out) / RECORDS
    while not (written.is_file() and written.stat().st_size) and program.poll() is None:
        time.sleep(0.005)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    assert 0 < len(read_records(Path(killed.out))) < len(whole)
    assert run(killed) == whole
    assert report(Path(killed.out))["rows"] == report(Path(config.out))["rows"]


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_same_report(config: EvalConfig, tmp_path: Path) -> None:
    """Guided answers through a cache, one a batch; killed five times, between 0 and 2 s after it has got further."""
    guided: dict[str, Any] = {
        "batch_size": 1,
        "sampling": {"do_sample": True, "samples": 8, "max_new_tokens": 8},
        "decode": {"method": "smc", "particles": 3, "block": 3, "rewards": {"form": {"fn": "think_format"}}},
    }
    whole = run(changed(config, **guided))
    cache = str(tmp_path / "answers.sqlite")
    killed, chance, reached = (
        changed(config, **guided, out=str(tmp_path / "killed"), cache=cache),
        random.Random(1),
        [0],
    )
    file, written = tmp_path / "config.yaml", Path(killed.out) / RECORDS
    file.write_text(yaml.safe_dump(killed.model_dump(mode="json")))
    for _ in range(5):
        program = subprocess.Popen([sys.executable, "-m", "eval", "run", str(file)], stdout=subprocess.DEVNULL)
        while not (written.is_file() and len(read_records(Path(killed.out))) > reached[-1]) and program.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2))
        program.kill()
        assert program.wait() == -signal.SIGKILL, "ended before it was killed"
        reached.append(len(read_records(Path(killed.out))))
    print(f"killed after {reached[1:]} of {len(whole)} records")
    assert run(killed) == whole
    assert report(Path(killed.out))["rows"] == report(Path(config.out))["rows"]
    assert report(Path(killed.out))["tokens"] == report(Path(config.out))["tokens"]


def test_more_draws_add_to_those_that_are_there(config: EvalConfig) -> None:
    sampling = config.sampling.model_dump()
    first = run(changed(config, sampling={**sampling, "samples": 1}))
    both = run(config)
    assert both[: len(first)] == first
    assert {record.draw for record in both[len(first) :]} == {1}


def test_another_protocol_in_the_same_place_is_refused(config: EvalConfig) -> None:
    greedy = changed(config, sampling={"max_new_tokens": 4})
    run(greedy)
    with pytest.raises(InputError, match=r"another protocol .*max_new_tokens: 4 there, 8 now.*choose another out"):
        run(config)


def test_other_rewards_score_the_same_answers_again(config: EvalConfig) -> None:
    before = run(config)
    after = run(changed(config, rewards={"format": {"fn": "think_format"}}))
    assert [record.response for record in after] == [record.response for record in before]
    assert all(list(record.scores) == ["format"] for record in after)
    report(Path(config.out))


def test_a_blind_run_is_marked(config: EvalConfig) -> None:
    records = run(changed(config, blind=True, data={"path": config.data.path, "limit": 1}))
    assert len(records) == 5 * 2
    assert all("blind" in record.flags for record in records)
    assert not any(part["type"] == "image" for record in records for part in record.prompt[0]["content"])
    assert any(record.media for record in records)
    report(Path(config.out))
    page = Path(config.out, "report.md").read_text()
    assert f"Model {config.model}, sampled at temperature 1, asked without the media; 10 records" in page


def test_the_command_runs_reports_and_compares(config: EvalConfig, tmp_path: Path) -> None:
    def command(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "60"}, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    file, blind, difference = tmp_path / "config.yaml", tmp_path / "blind", tmp_path / "difference.json"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    printed = command("run", str(file))
    assert all(name in printed for name in ("grounding", "accuracy", "95 % interval", "30 records"))
    command("run", str(file), "blind=true", f"out={blind}")
    compared = command("compare", str(blind), config.out, "--json", str(difference))
    assert "blind: True -> False" in compared
    assert "…" not in printed + compared  # no digit is lost in a narrow window
    rows = json.loads(difference.read_text())["rows"]
    assert {"task", "reward", "before", "after", "n", "difference", "low", "high"} <= set(rows[0])
    assert (rows[0]["task"], rows[0]["reward"], rows[0]["n"]) == ("all", "total", 15)
    assert command("score", config.out) == printed
    assert command("report", config.out).startswith(printed)
    assert Path(config.out, "report.html").is_file()


def test_the_module_is_a_program_and_says_what_is_wrong_in_one_line() -> None:
    program = [sys.executable, "-m", "eval", "run", "nowhere.yaml"]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "python -m eval: no config file at nowhere.yaml\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nowhere"}, "no checkpoint at nowhere: expected a directory with config.json"),
        ({"data": {"path": "nowhere"}}, "no dataset at .*nowhere"),
        ({"data": {"path": "{dataset}", "split": "tset"}}, "no split 'tset'; did you mean test"),
        ({"rewards": {"yesno": REWARDS["yesno"]}}, "no reward scores the task 'count'"),
        ({"rewards": {"total": REWARDS["format"]}}, "cannot be called 'total'"),
        ({"sampling": {"samples": 4}}, "samples 4 without do_sample would be equal draws"),
        ({"smapling": {}}, "unknown key smapling .*did you mean sampling"),
    ],
)
def test_what_a_user_got_wrong_is_said(config: EvalConfig, changes: dict[str, Any], message: str) -> None:
    if "{dataset}" in changes.get("data", {}).get("path", ""):
        changes = {"data": {**changes["data"], "path": config.data.path}}
    with pytest.raises(InputError, match=message):
        run(changed(config, **changes))
    assert not (Path(config.out) / RUN).exists()


@pytest.fixture
def spoiled(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to break."""
    return shutil.copytree(checkpoint, tmp_path / "spoiled")


def broken_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def broken_processor(directory: Path) -> None:
    (directory / "processor_config.json").unlink()


def broken_template(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()


def broken_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


def language_model(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')


def unknown_model(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "my_own_vlm"}')


def code_of_its_own(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "my_own_vlm", "auto_map": {"AutoConfig": "mine.Config"}}')


def torn_weights(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def no_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (language_model, "is a llama checkpoint, which transformers does not have among"),
        (unknown_model, r"config\.json: .*`my_own_vlm`"),
        (code_of_its_own, r"config\.json: .*custom code"),
        (broken_config, r"config\.json.* is not a valid JSON file"),
        (broken_tokenizer, "no tokenizer in .*processor.save_pretrained"),
        (broken_processor, "no processor in .*processor.save_pretrained"),
        (broken_template, r"has no chat template; expected chat_template\.jinja"),
        (torn_weights, "the weights in .* are damaged"),
        (no_weights, r"no \*\.safetensors in .*save_pretrained"),
    ],
)
def test_a_spoiled_checkpoint_is_refused(
    spoiled: Path, config: EvalConfig, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(spoiled)
    with pytest.raises(InputError, match=message):
        run(changed(config, model=str(spoiled)))
    assert not (Path(config.out) / RECORDS).exists()


@pytest.mark.parametrize(("name", "size"), [("hidden_size", 128), ("num_hidden_layers", 3)])
def test_weights_of_another_model_are_refused(spoiled: Path, config: EvalConfig, name: str, size: int) -> None:
    settings = json.loads((spoiled / "config.json").read_text())
    settings["text_config"][name] = size
    settings["text_config"].pop("layer_types", None)
    settings["vision_config"]["out_hidden_size"] = settings["text_config"]["hidden_size"]
    (spoiled / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"the weights in .* are not those of qwen2_5_vl: .*(missing|has shape)"):
        run(changed(config, model=str(spoiled)))


def test_the_fingerprint_knows_weights_and_template_and_not_the_optimizer(spoiled: Path) -> None:
    before = fingerprint(spoiled)
    (spoiled / "optimizer.pt").write_bytes(b"momentum")
    (spoiled / "trainer_state.json").write_text("{}")
    assert fingerprint(spoiled) == before
    (spoiled / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(spoiled) != before


def test_the_configs_of_the_project_are_valid() -> None:
    files = sorted((Path(__file__).parents[2] / "configs" / "eval").glob("*.yaml"))
    assert files
    for file in files:
        load(EvalConfig, file)
