"""The page on Python runs as it stands, in a folder of `mmrl init`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, blocks


def test_the_code_of_the_page_runs_in_its_order(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for words in (["init", "lab"], ["data", "build", "lab/data.yaml", "root=lab/my_data", "--out", "lab/runs/data"]):
        done = subprocess.run([sys.executable, "-m", "mmrl", *words], cwd=tmp_path, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
    code = "\n\n".join(blocks(DOCS / "guide" / "python.md", "python"))
    (tmp_path / "lab" / "page.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path / "lab", env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "{'right': 1.0, 'brief': 1.0}" in done.stdout
    assert "9 records; total" in done.stdout
    assert "gradient_checkpointing_enable" not in done.stderr
    assert (tmp_path / "lab" / "runs" / "python" / "model" / "model.safetensors").is_file()
