"""A page as a real browser shows it: its complaints, its pictures, its text."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine; apt-get install chromium")
SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")
LOOK = """(async () => {
  const pictures = [...document.querySelectorAll("img, image")];
  const drawn = await Promise.all(pictures.map(async one => {
    try { await one.decode(); } catch { return [0, 0]; }
    const place = one.getBoundingClientRect();
    return [Math.round(place.width), Math.round(place.height)];
  }));
  const widths = [...document.querySelectorAll("p, pre")].map(one => one.getBoundingClientRect().width);
  const narrowest = Math.round(Math.min(...widths));
  return {drawn, text: document.body.innerText, marks: document.querySelectorAll("svg .mark").length, narrowest};
})()"""


@dataclass(frozen=True)
class Shown:
    """A page in a browser: its complaints, (width, height) of each picture as drawn ((0, 0): not shown),
    the text that can be read, the number of marks drawn on pictures, and the width of the narrowest text."""

    complaints: list[str]
    pictures: list[tuple[int, int]]
    text: str
    marks: int
    narrowest: int


def opened(page: Path, profile: Path) -> Shown:
    """`page` opened in a headless browser with its profile in `profile`."""
    return asyncio.run(asyncio.wait_for(_opened(page, profile), 120))


async def _opened(page: Path, profile: Path) -> Shown:
    assert BROWSER is not None
    browser = await asyncio.create_subprocess_exec(
        BROWSER, *SWITCHES, f"--user-data-dir={profile}", stderr=asyncio.subprocess.PIPE
    )
    try:
        assert browser.stderr is not None
        address = None
        while address is None:
            line = (await browser.stderr.readline()).decode(errors="replace")
            assert line, "the browser ended before it was asked"
            address = re.search(r"ws://\S+", line)
        port = address[0].split("/")[2]
        async with aiohttp.ClientSession() as client:
            async with client.put(f"http://{port}/json/new?about:blank") as reply:
                tab = json.loads(await reply.text())
            async with client.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                return await Tab(socket).opened(page.resolve().as_uri())
    finally:
        browser.kill()
        await browser.wait()


class Tab:
    """One tab, spoken to in the DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[str] = []
        self._loaded = False

    async def opened(self, address: str) -> Shown:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._call(f"{domain}.enable")
        await self._call("Page.navigate", url=address)
        while not self._loaded:
            await self._message()
        page_state = await self._call("Runtime.evaluate", expression=LOOK, awaitPromise=True, returnByValue=True)
        value = page_state["result"]["value"]
        pictures = [(width, height) for width, height in value["drawn"]]
        return Shown(self.complaints, pictures, value["text"], value["marks"], value["narrowest"])

    async def _call(self, method: str, **values: Any) -> Mapping[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": values})
        while (message := await self._message()).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    async def _message(self) -> Mapping[str, Any]:
        message = json.loads((await self._socket.receive()).data)
        match message.get("method"):
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" | "Network.loadingFailed":
                self.complaints.append(json.dumps(message["params"])[:500])
            case "Page.javascriptDialogOpening":
                self.complaints.append("a dialog")
                self._number += 1
                await self._socket.send_json(
                    {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                )
            case "Page.loadEventFired":
                self._loaded = True
        return message
