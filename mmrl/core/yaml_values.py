"""YAML as configs take it: plain values, each key once, and texts that stay texts."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mmrl.core.errors import InputError

MOST = 100_000  # values in a text, those of an alias counted wherever it stands
_TAG = "tag:yaml.org,2002:"
_TEXTS = {_TAG + name for name in ("bool", "int", "float", "timestamp")}  # their rules of YAML 1.1 are replaced
_RULES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*|0[0-7_]+)", "-+0123456789"),
    ("float", r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+", "-+.0123456789"),
    ("float", r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|\.(inf|Inf|INF))|\.(nan|NaN|NAN)", "-+.0123456789"),
)


def parsed(text: str, *, where: str) -> Any:
    """The value of a YAML text; InputError if it is not valid, or too large.

    Only `true` and `false` are booleans: YAML 1.1 reads `no`, `on` and `off` as such, dates and times as others, and
    `3e-4` as a text.

    >>> parsed("{a: no, b: 3e-4, c: 12:30, d: 2026-11-29, e: true}", where="here")
    {'a': 'no', 'b': 0.0003, 'c': '12:30', 'd': '2026-11-29', 'e': True}
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        size = _size(value, {})
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {error}") from None
    except ValueError as error:  # a number that Python does not take
        raise InputError(f"{where}: not valid YAML: {error}") from None
    except RecursionError:
        raise InputError(f"{where}: its values are nested too deeply, or an alias is within itself") from None
    if size > MOST:
        raise InputError(f"{where}: more than {MOST:,} values, with all its aliases; write fewer")
    return value


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] not in _TEXTS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in _RULES:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), list(_first))


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are in `value`, an alias counted wherever it stands; RecursionError if it is endless."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    elif not known[id(value)]:
        raise RecursionError
    return known[id(value)]
