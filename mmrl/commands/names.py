"""The registries of `mmrl data`, `eval` and `train`, as `list` and `show` print them."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mmrl.commands.catalogue import description, entry, first_lines, found, print_list
from mmrl.core.config import InputError, nearest

if TYPE_CHECKING:
    from eval.benchmarks.base import Benchmark


def list_data() -> None:
    """Print the sources and the operators of recipes, and the checks of the operator `validate`."""
    for kind, entries in _data().items():
        print_list(kind, first_lines(entries) if kind != "check" else [(n, c.about) for n, c in entries.items()])
        print()


def show_data(name: str) -> str:
    """A source, an operator or a check in full."""
    texts = []
    for kind, each in found(name, _data()):
        text = f"{name}: {each.about}" if kind == "check" else entry(name, each, skip=int(kind == "operator"))
        texts.append(f"{kind} {text}")
    return "\n\n".join(texts)


def data_names() -> set[str]:
    """All that `show_data` knows."""
    return {name for entries in _data().values() for name in entries}


def _data() -> dict[str, dict[str, Any]]:
    from data_engine.ops import OPERATORS
    from data_engine.sources import SOURCES
    from data_engine.validate.checks import CHECKS

    functions: dict[str, dict[str, Any]] = {
        kind: {name: resolve_name(place) for name, place in registry.items()}
        for kind, registry in (("source", SOURCES), ("operator", OPERATORS))
    }
    return {**functions, "check": dict(CHECKS)}


def list_eval() -> None:
    """Print the benchmarks, and the published sets of preferences."""
    from eval.benchmarks import BENCHMARKS
    from eval.preferences.sets import SETS

    print_list("benchmark", [(name, each.about) for name, each in BENCHMARKS.items()])
    print()
    print_list("--layout of `mmrl eval rewards`", [(name, each.hub) for name, each in SETS.items()])


def show_eval(name: str) -> str:
    """A benchmark in full: what it asks, where its data are, what scores it, and a config of it."""
    from eval.benchmarks import find_benchmark

    benchmark = find_benchmark(name)
    rows = [
        ("data", f"{benchmark.hub}, split {benchmark.split or '(all)'}"),
        ("folders", ", ".join(benchmark.folders)),
        ("columns", ", ".join(benchmark.columns)),
        ("items", f"{count:,}" if (count := benchmark.size or benchmark.rows) else ""),
        ("scorers", ", ".join(f"{key} ({spec['fn']})" for key, spec in benchmark.scorers.items())),
        ("judged", ", ".join(benchmark.judged)),
        ("needs", benchmark.needs),
    ]
    lines = [f"  {key}: {value}" for key, value in rows if value]
    return "\n".join([name, *lines, "", benchmark.about, "", *_config_of(benchmark)])


def _config_of(benchmark: Benchmark) -> list[str]:
    """A config that runs it."""
    edits = ", edits: DIRECTORY_OF_EDITED_IMAGES" if benchmark.edits else ""
    lines = ["model: MODEL", f"benchmarks: {{{benchmark.name}: {{path: FILE_OR_DIRECTORY{edits}}}}}", "out: OUT"]
    if benchmark.edits:
        lines.insert(0, "engine: given")
    if benchmark.judged:
        lines.append("judges: {judge: {base_url: http://127.0.0.1:8000/v1, model: NAME}}")
    return lines


def list_train() -> None:
    """Print the estimators, the tools of rollouts, and the keys of a training config."""
    from mmrl.advantages import ADVANTAGES
    from mmrl.train.config import FOLDERS, TrainConfig

    print_list("estimator", first_lines(ADVANTAGES))
    print()
    print_list("tool", first_lines(_tools()))
    kinds = [(key, "a block: mmrl train show " + key if key in FOLDERS else "") for key in TrainConfig.model_fields]
    print()
    print_list("key of a config", kinds)


def show_train(name: str) -> str:
    """An estimator or a tool in full; or the keys of the block of a stage; or one of them, such as grpo.beta."""
    from mmrl.advantages import ADVANTAGES
    from mmrl.train.config import FOLDERS, schema_of

    block, _, key = name.partition(".")
    if block not in FOLDERS:
        [(kind, function)] = found(name, {"estimator": ADVANTAGES, "tool": _tools(), "block": {}})
        return entry(name, function, skip=2) if kind == "estimator" else f"{name}\n\n{description(function)}"
    fields = schema_of(block).__dataclass_fields__
    if key and key not in fields:
        raise InputError(f"no key {name}; {nearest(key, fields)}")
    return "\n".join(_key(block, each) for each in fields.values() if each.init and key in ("", each.name))


def _tools() -> dict[str, Callable[..., Any]]:
    from mmrl.tools.registry import TOOLS

    return {name: resolve_name(place) for name, place in TOOLS.items()}


def _key(block: str, field: Any) -> str:
    import dataclasses

    default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
    about = " ".join(str(field.metadata.get("help", "")).split())
    return f"{block}.{field.name}{default}\n    {about}"
