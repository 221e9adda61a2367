"""The guides work: the tests write their files and run their commands."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.registry import resolve
from rewards import Rollout, get
from tests.docs.pages import DOCS, ROOT, blocks, commands, files_in
from tests.support.clips import write_clip

CHECKPOINT = ROOT / "mmrl" / "demo" / "checkpoint"


def run(line: str, folder: Path) -> str:
    """The output of an `mmrl` command that is run in `folder`; it must succeed."""
    words = [str(CHECKPOINT) if word == "CHECKPOINT" else word for word in shlex.split(line)]
    words = [word.replace("=CHECKPOINT", f"={CHECKPOINT}") for word in words]
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_your_data_in_ten_minutes(tmp_path: Path) -> None:
    page = DOCS / "guide" / "your_own_data.md"
    questions, clips = blocks(page, "json")
    data = tmp_path / "my_data"
    for folder in ("photos", "clips"):
        (data / folder).mkdir(parents=True)
    for name in {json.loads(line).get("image") for line in questions.splitlines()}:
        picture = Image.effect_noise((240, 200), 50 + len(list((data / "photos").iterdir()))).convert("RGB")
        picture.save(data / name)
    write_clip(data / "clips" / "a.mp4", 60, fps=10, times=[100 * frame for frame in range(60)])
    (data / "questions.jsonl").write_text(questions)
    (data / "clips.jsonl").write_text(clips)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    cheap = [line for line in commands(page) if not line.startswith("mmrl train")]  # the next test trains
    outputs = {line: run(line, tmp_path) for line in cheap}
    assert "5 samples" in outputs["mmrl data build configs/data/questions.yaml root=my_data --workers 2"]
    run("mmrl reward test configs/rewards/mixed.yaml runs/data/questions --out tried.json", tmp_path)
    tried = json.loads((tmp_path / "tried.json").read_text())
    assert {row["means"]["exact"] for row in tried} == {1.0}


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    page = DOCS / "guide" / "your_own_task.md"
    for name, text in files_in(page).items():
        (tmp_path / name).write_text(text)
    on_a_cpu, on_a_gpu = blocks(page, "bash")
    outputs = [run(line.partition("#")[0], tmp_path) for line in on_a_cpu.splitlines()]
    assert "squares" in outputs[0]
    assert "squares:near" in outputs[2]
    assert "smoke test passed" in outputs[-1]
    assert "--smoke" not in on_a_gpu


def test_the_reward_in_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(code for code in blocks(DOCS / "guide" / "rewards.md", "python") if "brevity" in code)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "printed_reward.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    rollouts = [Rollout("x" * 200), Rollout("x" * 300), Rollout("x" * 500)]
    assert [verdict.score for verdict in get("printed_reward:brevity")(rollouts)] == [1, 0.5, 0]
    assert get("printed_reward:brevity", limit=500)(rollouts)[2].score == 1
    with pytest.raises(InputError, match="limit"):
        get("printed_reward:brevity", limit="many")


def test_the_operator_in_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(code for code in blocks(DOCS / "guide" / "datasets.md", "python") if "no_long_questions" in code)
    (tmp_path / "printed_operator.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    function = resolve("printed_operator:no_long_questions", {}, "operator")
    sample = Sample("", "s", "yesno", user_prompt("Is it red?"), {"yesno": True})
    assert (function(sample), function(sample, words=2)) == (None, "long_question")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_python_in_a_page_imports_what_is_there(page: Path) -> None:
    for code in blocks(page, "python"):
        imports = [ast.unparse(node) for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec("\n".join(imports), {})
