"""Pictures inside a URI: how pages embed them and servers take them."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

from PIL import Image


def data_uri(image: Image.Image, form: Literal["JPEG", "PNG"] = "JPEG", **options: Any) -> str:
    """The image as a data URI; `options` are those of Pillow's `save`, such as `quality`."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
