"""Fixtures that several tests of media share."""

import pytest
from PIL import Image

from tests.support.odd_media import SKLEARN


@pytest.fixture
def photo() -> Image.Image:
    """A piece of a photograph, 60x40."""
    return Image.open(SKLEARN / "china.jpg").crop((0, 0, 60, 40))
