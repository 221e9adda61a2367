"""JSON in one spelling: equal values give equal text, and so equal hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def dumps(value: Any) -> str:
    """Canonical JSON: sorted keys, no blanks, no NaN; equal values give equal text.

    >>> dumps({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(dumps(value).encode()).hexdigest()[:16]
