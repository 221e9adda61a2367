"""What to install where a package is missing: the extra of our distribution that has it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

from mmrl.core.beside import BESIDE

DISTRIBUTION = "mmrl-stack"
BUNDLES = {
    "train": ("train", "data", "judge", "rewards"),
    "demo": ("demo", "flow", "train", "data", "judge", "rewards"),
}
NAMED = {  # imported: its distribution
    **{"skimage": "scikit-image", "sklearn": "scikit-learn", "easy_vqa": "easy-vqa", "ot": "POT"},
}


def missing(error: ModuleNotFoundError, extra: str) -> str:
    """What to install after `error`, in a command that needs `extra`; nothing where a module of ours is missing.

    >>> missing(ModuleNotFoundError(name="torch"), "train")
    "the package torch is missing; pip install 'mmrl-stack[train]'"
    """
    package = (error.name or "mmrl").partition(".")[0]
    if package in ("mmrl", *BESIDE):
        return ""
    having = extras_with(package)
    if having == []:
        return f"the package {package} is missing; it belongs to no extra of {DISTRIBUTION}"
    fits = not having or set(BUNDLES.get(extra, (extra,))).intersection(having)
    named = extra if fits or not having else having[0]
    return f"the package {package} is missing; pip install '{DISTRIBUTION}[{named}]'"


def widened(text: str, extra: str) -> str:
    """A message that names a smaller extra than the one that a command needs, with the one that has both.

    >>> widened("videos are read with PyAV: pip install 'mmrl-stack[data]'", "train")
    "videos are read with PyAV: pip install 'mmrl-stack[train]'"
    """
    for part in BUNDLES.get(extra, ()):
        text = text.replace(f"pip install '{DISTRIBUTION}[{part}]'", f"pip install '{DISTRIBUTION}[{extra}]'")
    return text


def extras_with(package: str) -> list[str] | None:
    """The extras that install a package, in the order of pyproject.toml; None where we are not installed."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    wanted = _plain(NAMED.get(package, package))
    named = (re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)", line) for line in lines)
    return [found[2] for found in named if found and _plain(found[1]) == wanted]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
