"""Links lead somewhere, and every name in the documentation exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from mmrl.core.registry import resolve
from rewards.registry import REWARDS
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, name_of, prose
from tests.test_layers import PACKAGES, modules

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'configs', 'tests', 'benchmarks', 'docs'))})/[\w/.-]*?(?:\.\w+|/))`")
DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)[`(]")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    lost = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        included = page.name in ("index.md", "contributing.md") and page.parent == DOCS  # another file's text
        if not place.is_file() or (anchor and not included and anchor not in anchors(place)):
            lost.append(link)
    assert lost == [], f"{name_of(page)} has links to nothing"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_of_the_site_links_to_pages_of_the_site(page: Path) -> None:
    if page.is_relative_to(DOCS):
        places = [
            (page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page)) if "://" not in link
        ]
        outside = [place for place in places if not place.is_relative_to(DOCS)]
        assert outside == [], "the site holds docs/ only: name files of the project as `code`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_functions_that_a_page_names_exist(page: Path) -> None:
    text = prose(page)
    files = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    functions = [name for name in DOTTED.findall(text) if not _exists(name)]
    assert files + functions == [], f"{name_of(page)} names what is not there"


def _exists(dotted: str) -> bool:
    if dotted in modules():
        return True
    try:
        resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_folder_of_the_packages_is_on_the_map() -> None:
    """The map of docs/architecture.md has a line for each folder."""
    (tree,) = blocks(DOCS / "architecture.md", "")
    named = [line.split()[0] for line in tree.splitlines()]
    assert [name for name in named if not (ROOT / name).is_dir()] == [], "folders on the map that are not there"
    folders = {file.parent.relative_to(ROOT).as_posix() for file in modules().values()} - {"mmrl"}
    assert folders - {*named} == set(), "add a line for these folders to the map in docs/architecture.md"


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((DOCS / "tools" / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/]+\.md", json.dumps(navigation))
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages), "the navigation in docs/tools/mkdocs.yml and the pages differ"


def test_known_exploits_are_of_rewards_that_exist() -> None:
    table = (DOCS / "guide" / "rewards.md").read_text().split("## Known exploits")[1].split("## ")[0]
    for row in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert resolve(name, REWARDS, "reward")


def test_a_page_is_short_enough_to_read() -> None:
    lengths = {name_of(page): len(page.read_text().splitlines()) for page in PAGES}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}
    assert lengths["README.md"] <= 90
