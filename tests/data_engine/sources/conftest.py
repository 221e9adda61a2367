"""Folders with pictures that the rows of tests name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a picture a.png of 100 x 50 pixels."""
    Image.new("RGB", (100, 50), "red").save(tmp_path / "a.png")
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the photographs china.jpg and flower.jpg."""
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(load_sample_image(name)).save(tmp_path / name)
    return tmp_path
