"""`mmrl data push`: the hub's own client against a server here that speaks as the hub does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data_engine.pipeline import run
from data_engine.push import push
from mmrl.config import InputError
from tests.test_pipeline import counting

ROOT = Path(__file__).parent.parent


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and its commits, every file as a regular one."""

    created: dict[str, Any]
    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            type(self).created = json.loads(body)
            return self._say({"url": f"http://{self.headers['Host']}/datasets/me/numbers"})
        if "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._say({"files": files})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"http://{self.headers['Host']}/datasets/me/numbers/commit/1"
            return self._say({"commitUrl": address, "commitOid": "1", "hookOutput": ""})
        return self._say({"warnings": [], "errors": []})

    def do_GET(self) -> None:
        self._say({"id": "me/numbers", "sha": "1", "siblings": []})

    def _say(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.created, Hub.files = {}, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run(counting({"fn": "tests.lab:is_odd"}, n=20), out=tmp_path / "out")
    return tmp_path / "out"


def test_a_dataset_goes_up_private_with_its_card_as_readme(out: Path, hub: str) -> None:
    command = [sys.executable, "-m", "data_engine", "push", str(out), "me/numbers"]
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": "hf_no", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "me/numbers" in done.stdout
    assert "private" in (Hub.created.get("visibility"), *(name for name, said in Hub.created.items() if said is True))
    assert Hub.created["type"] == "dataset"
    assert set(Hub.files) == {
        "README.md",
        "manifest.json",
        "report.html",
        "stats.parquet",
        "shards/train-00000.parquet",
    } | {name for name in Hub.files if name.startswith("dropped")}
    assert Hub.files["README.md"] == (out / "card.md").read_bytes()
    assert Hub.files["shards/train-00000.parquet"] == (out / "shards" / "train-00000.parquet").read_bytes()


def test_a_hub_that_is_not_there_is_one_line(out: Path) -> None:
    command = [sys.executable, "-m", "data_engine", "push", str(out), "me/numbers"]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_no"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"python -m data_engine: the hub did not take {out}")


def test_what_was_changed_since_it_was_built_stays_here(out: Path) -> None:
    shard = out / "shards" / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"train-00000\.parquet is not as it was written"):
        push(out, "me/numbers")
