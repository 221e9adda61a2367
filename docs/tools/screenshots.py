"""`python -m docs.tools.screenshots [DEMO_OUT]`: the pictures of the documentation, taken from the pages of a demo.

`mmrl demo` runs first where DEMO_OUT (default: demo_out) does not hold one. Needs chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 128  # of a picture: pages are mostly flat, and files stay small
WIDTH = 1100  # pixels


def shot(page: Path, picture: Path, *, height: int, top: int = 0) -> None:
    """A PNG of `page` from `top` on, WIDTH x `height` pixels, as a browser draws it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"no browser to take pictures with; install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "page.png")
        line = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ]
        line += [f"--screenshot={raw}", f"--window-size={WIDTH},{max(top + height, 800)}", page.resolve().as_uri()]
        subprocess.run(line, check=True, capture_output=True, timeout=120)
        cut = Image.open(raw).convert("RGB").crop((0, top, WIDTH, top + height))
    picture.parent.mkdir(parents=True, exist_ok=True)
    cut.quantize(COLOURS).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size // 1000} kB")


def mmrl(*words: str) -> None:
    """Run an `mmrl` command."""
    subprocess.run([sys.executable, "-m", "mmrl", *words], check=True)


def main(demo: Path) -> None:
    """Take every picture."""
    if not (demo / "report.html").is_file():
        mmrl("demo", "--out", str(demo))
    mmrl("eval", "report", str(demo / "eval" / "sampled_after"))
    mmrl("view", str(demo / "train"), "--task", "grounding", "--limit", "6")
    view, report = demo / "train" / "view.html", demo / "eval" / "sampled_after" / "report.html"
    shot(demo / "report.html", IMAGES / "demo.png", height=640)
    shot(view, IMAGES / "curves.png", top=125, height=665)
    shot(view, IMAGES / "rollouts.png", top=1012, height=720)
    shot(demo / "data" / "report.html", IMAGES / "dataset.png", height=860)
    shot(report, IMAGES / "evaluation.png", height=640)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo_out"))
