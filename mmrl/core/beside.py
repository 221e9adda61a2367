"""Our packages find each other, though `rewards` and `eval` are usual names for code of somebody's own."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent.parent.parent  # where the packages lie, side by side
BESIDE = ("rewards", "data_engine", "eval")  # next to `mmrl`


class Beside:
    """Finds the packages next to this one before the path is asked: `python -m` and `PYTHONPATH=.` put a `rewards.py`
    or a folder `eval` of the working folder at its head."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a package of ours; None for all other names."""
        return PathFinder.find_spec(name, [str(HOME)]) if name in BESIDE else None


def find_beside() -> None:
    """Install the finder; ImportError if code of somebody's own was imported under the name of one of our packages."""
    for name in BESIDE:
        place = getattr(sys.modules.get(name), "__file__", None)
        if place and not Path(place).is_relative_to(HOME):
            raise ImportError(f"{place} was imported as {name}, and a package of mmrl has that name; rename the file")
    sys.meta_path.insert(0, Beside)  # pyright: ignore[reportArgumentType]
