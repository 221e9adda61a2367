"""Media on other machines: refused unless allowed, and then within limits. The server is a real one on this machine."""

from __future__ import annotations

import functools
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_engine.engine.pipeline import run
from data_engine.media.remote import Remote, fetched, is_public
from data_engine.operator import Quarantined
from data_engine.ops.validate import validate
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from data_engine.sources import row_media
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import jsonl
from mmrl.core.config import validate as configured
from mmrl.core.media.files import MediaError


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(content, "PNG")
    return content.getvalue()


PICTURE = _picture()


class Pages(BaseHTTPRequestHandler):
    """The server's answer under each path."""

    def do_GET(self) -> None:
        """Answer one request."""
        self.server.asked.append(self.path)  # pyright: ignore[reportAttributeAccessIssue]
        page, _, more = self.path.strip("/").partition("/")
        if self.server.closed:  # pyright: ignore[reportAttributeAccessIssue]
            self._head(503)
        elif page in ("to", "moved"):
            self._head(302, Location=f"/{more}" if page == "to" else f"http://{more}/")
        elif page == "gone":
            self._head(404)
        else:
            self._head(200, **({"Content-Length": str(len(PICTURE) + 10)} if page == "short" else {}))
            self._body(page)

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, page: str) -> None:
        if page == "endless":
            while True:
                self.wfile.write(bytes(2**16))
        elif page == "slow":
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.1)
        else:
            self.wfile.write(PICTURE)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def handle(self) -> None:
        """A client that leaves early is part of the test."""
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.append(self.path)  # pyright: ignore[reportAttributeAccessIssue]


class Server(ThreadingHTTPServer):
    """Keeps the requests, and which clients left early."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.asked, self.left, self.closed = list[str](), list[str](), False


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def limits(folder: Path, **fields: Any) -> Remote:
    return Remote(**{"cache": folder / "cache", "hosts": ["localhost"], "seconds": 20.0, **fields})


def fetch(server: Server, path: str, remote: Remote) -> Path:
    """The file under a path of the server, this machine being allowed for once."""
    return fetched(f"http://localhost:{server.server_port}{path}", remote, allowed=lambda _: True)


def refusal(server: Server, path: str, remote: Remote) -> str:
    with pytest.raises(MediaError) as caught:
        fetch(server, path, remote)
    assert caught.value.reason == "remote"
    assert not list(remote.cache.glob("*"))
    return str(caught.value)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    remote = limits(tmp_path)
    first, again = fetch(server, "/a.png?size=1", remote), fetch(server, "/a.png?size=1", remote)
    assert first == again
    assert first.read_bytes() == PICTURE
    assert server.asked == ["/a.png?size=1"]
    assert [file.name for file in remote.cache.iterdir()] == [first.name]


def test_addresses_are_written_as_people_write_them(server: Server, tmp_path: Path) -> None:
    assert fetch(server, "/é b.png?q=ü", limits(tmp_path, hosts=["LocalHost"])).read_bytes() == PICTURE
    assert server.asked == ["/%C3%A9%20b.png?q=%C3%BC"]
    assert "surrogates not allowed" in refusal(server, "/\ud83d.png", limits(tmp_path / "other"))


def test_what_was_not_fetched_is_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_media, "fetched", functools.partial(fetched, allowed=lambda _: True))
    row = {"question": "Red?", "task": "yesno", "answer": "yes", "image": f"http://localhost:{server.server_port}/a"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    form = {"remote": {"cache": str(tmp_path / "media"), "hosts": ["localhost"]}}
    source = {"fn": "jsonl", "args": {"path": "rows.jsonl", "rows": form}}
    fields = {"sources": [source], "root": tmp_path, "cache": str(tmp_path / ".cache")}
    made = configured(Recipe, {**fields, "operators": [{"fn": "validate"}]}, where="recipe")
    server.closed = True
    assert run(made, out=tmp_path / "out").quarantined == {"remote": 1}
    server.closed = False
    assert run(made, out=tmp_path / "out").kept == {"jsonl": 1}


def test_redirects_are_followed_so_far(server: Server, tmp_path: Path) -> None:
    assert fetch(server, "/to/to/a.png", limits(tmp_path, redirects=2)).read_bytes() == PICTURE
    assert "more than 1 redirects" in refusal(server, "/to/to/b.png", limits(tmp_path / "other", redirects=1))
    assert "is not one of localhost" in refusal(server, "/moved/example.org", limits(tmp_path / "other"))


def test_a_redirect_to_a_private_address_is_refused(server: Server, tmp_path: Path) -> None:
    def only_this_machine(address: str) -> bool:
        return is_public(address) or address in ("127.0.0.1", "::1")

    remote = limits(tmp_path, hosts=["*"])
    with pytest.raises(MediaError, match=r"169\.254\.169\.254, which is not on the public internet"):
        fetched(
            f"http://localhost:{server.server_port}/moved/169.254.169.254/latest", remote, allowed=only_this_machine
        )


def test_size_time_and_status_have_limits(server: Server, tmp_path: Path) -> None:
    assert "more than 100000 bytes" in refusal(server, "/endless", limits(tmp_path, max_bytes=100_000))
    assert "404" in refusal(server, "/gone", limits(tmp_path))
    assert "10 bytes are missing" in refusal(server, "/short", limits(tmp_path))
    started = time.perf_counter()
    assert "not within 0.5 seconds" in refusal(server, "/slow", limits(tmp_path, seconds=0.5))
    assert time.perf_counter() - started < 10  # the server would take 20


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://localhost:{port}/a.png", "not on the public internet"),
        ("http://127.0.0.1:{port}/a.png", "not on the public internet"),
        ("http://0x7f000001:{port}/a.png", "not on the public internet"),
        ("http://[::1]:{port}/a.png", "not on the public internet"),
        ("http://[::ffff:127.0.0.1]:{port}/a.png", "not on the public internet"),
        ("ftp://localhost/a.png", "is not an http or https address"),
        ("http:///a.png", "is not an http or https address"),
        ("http://localhost:99999999/a.png", "[Pp]ort"),
        ("http://localhost:{port}/a b\r\nX: y", "not on the public internet"),
    ],
)
def test_private_addresses_and_odd_ones_are_refused(url: str, why: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=why) as caught:
        fetched(url.format(port=server.server_port), limits(tmp_path, hosts=["*"]))
    assert caught.value.reason == "remote"
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1"),
        *("64:ff9b::a00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_that_are_public() -> None:
    assert all(map(is_public, ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822")))


def test_rows_are_refused_until_their_hosts_are_allowed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"http://localhost:{server.server_port}"
    row = {"question": "Red?", "task": "yesno", "answer": "yes"}
    images = [f"{host}/a.png", f"{host}/gone", "https://example.org/a.png", "ftp://localhost/a.png", "data:image/png,"]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({**row, "image": image}) for image in images))

    def read(form: Rows) -> list[str]:
        items = jsonl(path="rows.jsonl", root=tmp_path, rows=form)
        return [item.reason if isinstance(item, Quarantined) else "read" for item in items]

    assert read(Rows()) == ["remote"] * 5
    form = Rows(remote=limits(tmp_path))
    assert read(form) == ["remote"] * 5  # this machine is no public host
    assert server.asked == []
    monkeypatch.setattr(row_media, "fetched", functools.partial(fetched, allowed=lambda _: True))
    assert read(form) == ["read", "remote", "remote", "remote", "remote"]
    sample = next(jsonl(path="rows.jsonl", root=tmp_path, rows=form))
    assert isinstance(sample, Sample)
    outcome = validate(sample, modes={"wrong_extension": "quarantine"})
    assert isinstance(outcome, Sample), outcome
    assert (outcome.media[0].width, outcome.media[0].height) == (60, 40)
