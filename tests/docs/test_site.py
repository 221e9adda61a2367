"""The reference lists everything that exists, and the site builds from it."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from docs.tools import describe
from docs.tools.describe import first_sentence
from docs.tools.screenshots import WIDTH, shot
from docs.tools.tables import MARKER, TABLES, filled
from tests.docs.pages import DOCS, ROOT
from tests.support.browser import needs_browser

REGISTRIES = ("rewards", "operators", "sources", "estimators")  # the tables with a section for each function
PAGES = [page.read_text() for page in DOCS.rglob("*.md")]


def test_every_table_is_in_a_page_and_every_marker_is_known() -> None:
    used = [name for page in PAGES for kind, name in MARKER.findall(page) if kind == "table"]
    assert sorted(used) == sorted(TABLES), "a table of docs/tools/tables.py must stand in exactly one page"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_everything_in_a_registry_is_described(registry: str) -> None:
    """The site shows docstrings: each has a first sentence that fits a table."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (.*) \|$", TABLES[registry](), re.MULTILINE)
    assert rows
    for name, sentence in rows:
        assert sentence, f"{registry}: {name} has no docstring; its first sentence is its line in the documentation"
        assert len(sentence) <= 220, f"{registry}: the first sentence of {name}'s docstring is too long for a table"
        assert sentence.endswith((".", ":", "`")), f"{registry}: the docstring of {name} does not begin with a sentence"


def test_a_page_is_filled_with_options_keys_and_faults() -> None:
    assert "| `threshold` | number or none | none |" in filled((DOCS / "reference" / "rewards.md").read_text())
    assert "| `max_pixels` | whole number above 0 | `1003520` |" in TABLES["configs"]()
    assert "mmrl data build RECIPE" in TABLES["commands"]()
    assert "`truncated`" in TABLES["checks"]()
    assert "`pope`" in TABLES["benchmarks"]()


def test_the_examples_of_the_tools_hold() -> None:
    """These modules are on no test path: mkdocs, which another one of them needs, is an extra."""
    assert doctest.testmod(describe) == doctest.TestResults(failed=0, attempted=3)


def test_the_first_sentence_ends_at_a_full_stop_that_ends_one() -> None:
    assert first_sentence("Minimum, e.g. of a box (2505.11080). More text.") == "Minimum, e.g. of a box (2505.11080)."


@needs_browser
def test_a_screenshot_shows_the_page_from_its_top_on(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<body style='margin:0'><div style='height:60px'></div><div style='height:90px;background:red'>"
    )
    shot(tmp_path / "page.html", tmp_path / "page.png", top=50, height=80)
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == (WIDTH, 80)
        assert [picture.convert("RGB").getpixel((500, y)) for y in (5, 40)] == [(255, 255, 255), (255, 0, 0)]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'mmrl-stack[docs]'")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/tools/mkdocs.yml", "-d", str(tmp_path)]
    subprocess.run(line, check=True, cwd=ROOT, timeout=300)
    loaded = re.findall(r"<(?:script|link|img)[^>]*https?://[^>]*>", (tmp_path / "index.html").read_text())
    assert loaded == [], "the site must load nothing from elsewhere"
    assert "box_iou" in (tmp_path / "reference" / "rewards.html").read_text()
    assert "MultimodalGRPOTrainer" in (tmp_path / "reference" / "api.html").read_text()
