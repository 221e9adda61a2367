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

import numpy as np
import pytest

from data_engine.dataset.push import check_whole, push
from data_engine.dataset.shards import write_dataset
from data_engine.engine.pipeline import run
from data_engine.schema import Sample, user_prompt
from data_engine.sources.synthesis import png
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from tests.data_engine.test_pipeline import counting

ROOT = Path(__file__).parents[2]


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and its commits, every file as a regular one."""

    created: dict[str, Any]
    files: dict[str, bytes]
    private: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            type(self).created = json.loads(body)
            return self._say({"url": f"http://{self.headers['Host']}/datasets/me/numbers"})
        if "/preupload/" in self.path:
            files = [
                {"path": entry["path"], "uploadMode": "regular", "shouldIgnore": False}
                for entry in json.loads(body)["files"]
            ]
            return self._say({"files": files})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.files[line["value"]["path"]]
            address = f"http://{self.headers['Host']}/datasets/me/numbers/commit/1"
            return self._say({"commitUrl": address, "commitOid": "1", "hookOutput": ""})
        return self._say({"warnings": [], "errors": []})

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            return self._say([{"type": "file", "path": path, "size": 1, "oid": "1"} for path in self.files])
        return self._say({"id": "me/numbers", "sha": "1", "siblings": [], "private": self.private})

    def _say(self, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.created, Hub.files, Hub.private = {}, {}, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run(counting({"fn": "tests.support.lab:is_odd"}, n=20), out=tmp_path / "out")
    return tmp_path / "out"


def pushed(out: Path, hub: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_engine", "push", str(out), "me/numbers", *options]
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": "hf_no", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_dataset_goes_up_private_with_its_card_as_readme(out: Path, hub: str) -> None:
    done = pushed(out, hub)
    assert done.returncode == 0, done.stderr
    assert "me/numbers" in done.stdout
    assert "private" in (Hub.created.get("visibility"), *(name for name, value in Hub.created.items() if value is True))
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


def test_of_the_dataset_that_was_there_before_nothing_is_left(out: Path, hub: str) -> None:
    ours = {
        "shards/train-00001.parquet",
        "shards/test-00000.parquet",
        "media/ab/ab.png",
        "quarantine/part-00000.parquet",
    }
    Hub.files = dict.fromkeys({*ours, "dropped.parquet", "notes.md"}, b"old")
    assert pushed(out, hub).returncode == 0
    assert not ours & Hub.files.keys()
    assert Hub.files["notes.md"] == b"old"
    assert Hub.files.get("dropped.parquet") != b"old"
    assert Hub.files["shards/train-00000.parquet"] == (out / "shards" / "train-00000.parquet").read_bytes()


def test_a_repository_that_is_public_gets_nothing_that_is_not_to_be(out: Path, hub: str) -> None:
    Hub.private = False
    done = pushed(out, hub)
    assert done.returncode == 2
    assert "me/numbers exists and is public, so everybody would see this; give --public" in done.stderr
    assert Hub.files == {}
    assert pushed(out, hub, "--public").returncode == 0
    Hub.private = True
    assert "me/numbers exists and is private" in pushed(out, hub, "--public").stderr


def test_a_dataset_without_its_media_stays_here(tmp_path: Path) -> None:
    picture = Media("image", bytes=png(np.zeros((64, 64, 3), np.uint8)))
    asked = Sample("", "s", "yesno", user_prompt("Black?", ["image"]), {"yesno": True}, (picture,))
    write_dataset([asked], tmp_path / "out")
    check_whole(tmp_path / "out")
    write_dataset([asked], tmp_path / "inside", embed_media=True)
    check_whole(tmp_path / "inside")
    (file,) = (tmp_path / "out").glob("media/*/*")
    file.rename(file.with_name("other.png"))
    with pytest.raises(InputError, match=rf"have changed since they were written .*{file.name} is missing"):
        push(tmp_path / "out", "me/numbers")
    file.write_bytes(b"cut")
    with pytest.raises(InputError, match=r"2 files of .* bytes, not 1 of"):
        push(tmp_path / "out", "me/numbers")


def test_a_hub_that_is_not_there_is_one_line(out: Path) -> None:
    done = pushed(out, "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"python -m data_engine: the upload of {out} failed")


def test_what_was_changed_since_it_was_built_stays_here(out: Path) -> None:
    shard = out / "shards" / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"train-00000\.parquet has changed since it was written"):
        push(out, "me/numbers")
