"""The option `model` of rewards that run one; importing this loads none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from mmrl.core.config import InputError


def there(name: str) -> str:
    """A hub id, or the path of a directory that is there: a mistyped path must not fail rollout by rollout.

    >>> there("Qwen/Qwen3-0.6B")
    'Qwen/Qwen3-0.6B'
    """
    place = Path(name)
    if (place.is_absolute() or name.startswith(".")) and not place.is_dir():
        raise InputError(f"no checkpoint at {name}; give a directory or a hub id")
    return name


ModelName = Annotated[str, AfterValidator(there)]
