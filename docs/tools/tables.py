"""The reference tables: what takes the place of `<!-- table: NAME -->` in a page when the site is built."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import typer

from docs.tools.describe import config, configs_below, first_sentence, options, prose, table
from mmrl.core.config import read_yaml

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"^<!-- (table|file): (\S+) -->$", re.MULTILINE)
REWARD_GROUPS = {  # folder of `rewards` -> heading
    "rules": "Rewards by rule",
    "composed": "Rewards made of rewards",
    "judged": "Rewards that ask a judge",
    "heads": "Models that score in this process",
}
LINK = re.compile(r"(\]\(|src=\")docs/")


def filled(markdown: str) -> str:
    """A page with its markers replaced, by a table or by a file of the project's top folder."""
    return MARKER.sub(lambda marker: TABLES[marker[2]]() if marker[1] == "table" else _file(marker[2]), markdown)


def _file(name: str) -> str:
    return LINK.sub(r"\1", (ROOT / name).read_text(encoding="utf-8")).replace("](CONTRIBUTING.md", "](contributing.md")


def _registry(functions: Mapping[str, Callable[..., Any]], *, skip: int) -> str:
    """An overview of a registry, then a section for each of its functions."""
    rows = [(f"[`{name}`](#{name})", first_sentence(_doc(function))) for name, function in functions.items()]
    sections = [
        f"### {name}\n\n`{function.__module__}`\n\n{prose(_doc(function))}\n\n{options(function, skip=skip)}"
        for name, function in functions.items()
    ]
    return "\n\n".join([table(("name", "gives"), rows), *sections])


def rewards() -> str:
    """Every registered reward, by the folder of its module."""
    from rewards.registry import REWARDS, function_of

    groups: dict[str, dict[str, Callable[..., Any]]] = {}
    for name in sorted(REWARDS):
        groups.setdefault(REWARDS[name].split(".")[1], {})[name] = function_of(name)
    headings = {**{group: group for group in groups}, **REWARD_GROUPS}
    return "\n\n".join(
        f"## {headings[group]}\n\n{_registry(groups[group], skip=1)}" for group in headings if group in groups
    )


def tools() -> str:
    """The tools of rollouts: what a model knows of each."""
    from mmrl.tools.registry import TOOLS, tools_of

    told = [tool.schema["function"] for tool in tools_of(sorted(TOOLS)).values()]
    rows = [(f"`{one['name']}`", _names(one["parameters"]["properties"]), one["description"]) for one in told]
    return table(("tool", "arguments", "does"), rows)


def outcomes() -> str:
    """What may come of a call of a tool."""
    from mmrl.tools.calls import KINDS

    return table(("outcome", "when"), [(f"`{kind}`", when) for kind, when in KINDS.items()])


def operators() -> str:
    """Every registered operator."""
    from data_engine.ops import OPERATORS

    return _registry({name: resolve_name(place) for name, place in OPERATORS.items()}, skip=1)


def sources() -> str:
    """Every registered source."""
    from data_engine.sources import SOURCES

    return _registry({name: resolve_name(place) for name, place in SOURCES.items()}, skip=0)


def estimators() -> str:
    """Every registered estimator of advantages."""
    from mmrl.advantages import ADVANTAGES

    return _registry(ADVANTAGES, skip=2)


def checks() -> str:
    """Every fault that `validate` looks for."""
    from data_engine.validate.checks import CHECKS

    rows = [
        (f"`{code}`", check.about, check.mode, check.fix or "-", "no" if check.needed else "yes")
        for code, check in CHECKS.items()
    ]
    return table(("code", "what is wrong", "usual mode", "what `fix` does", "may be kept"), rows)


def tasks() -> str:
    """Every task: an answer of it, the rule that scores it, and what its keys must hold."""
    from rewards.tasks.table import TASKS

    rows = [
        (
            f"`{name}`",
            f"`{json.dumps(task.example)}`",
            f"[`{task.rule}`](rewards.md#{task.rule})" if task.rule else "judged",
            "; ".join(f"`{key.name}`: {key.right}" for key in task.keys),
        )
        for name, task in TASKS.items()
    ]
    return table(("task", "an answer", "scored by", "keys that must be there"), rows)


def prompts() -> str:
    """Every stock prompt: its text, and the rewards that read what it asks for."""
    from rewards.stock_prompts import STOCK

    rows = [
        (
            f"`{name}`",
            stock.text.replace("<", "&lt;"),
            ", ".join(f"[`{each}`](rewards.md#{each})" for each in stock.read_by),
        )
        for name, stock in STOCK.items()
    ]
    return table(("name", "text", "read by"), rows)


def papers() -> str:
    """The recipe of every paper: what it is, the rewards and the estimator that it uses, and the paper's result."""
    rows = []
    for place in sorted((ROOT / "configs" / "papers").glob("*/train.yaml")):
        values, comments = read_yaml(place), place.read_text(encoding="utf-8").splitlines()
        result = next(line for line in comments if line.startswith("# Paper's result: "))
        names = sorted({f"[`{fn}`](../reference/rewards.md#{fn})" for fn in _functions(values["rewards"])})
        estimator = values["advantages"]["name"]
        method = f"[`{estimator}`](../reference/estimators.md#{estimator})"
        about = comments[1].removeprefix("# ")
        rows.append((f"`{place.parent.name}`", about, ", ".join(names), method, result.partition(": ")[2]))
    return table(("folder", "paper", "rewards", "estimator", "its result"), rows)


def _functions(args: Any) -> Iterator[str]:
    """The names of the rewards in a block, those inside of others as well."""
    if isinstance(args, Mapping):
        yield from [args["fn"]] if "fn" in args else []
        for value in args.values():
            yield from _functions(value)


def benchmarks() -> str:
    """Every named benchmark, by the file that holds it: what is asked, its data and its scorers."""
    from eval.benchmarks import FILES

    return "\n\n".join(f"### {file.__name__.rpartition('.')[2]}\n\n{_benchmarks_in(file)}" for file in FILES)


def _benchmarks_in(file: ModuleType) -> str:
    rows = [(f"`{each.name}`", each.about, _data(each)) for each in file.BENCHMARKS]
    notes: dict[str, list[str]] = {}
    for each in file.BENCHMARKS:
        note = f"columns {_names(each.columns)}; scorers {_names([*each.scorers, *each.judged])}."
        notes.setdefault(note + (f" Needs {each.needs}." if each.needs else ""), []).append(each.name)
    head = ("name", "what is asked, what is reported", "data")
    return "\n\n".join(
        [
            prose(file.__doc__ or ""),
            table(head, rows),
            "\n".join(f"- {_names(names)}: {note}" for note, names in notes.items()),
        ]
    )


def _data(benchmark: Any) -> str:
    folders = f", {_names(benchmark.folders)}" if benchmark.folders else ""
    split = f", split `{benchmark.split}`" if benchmark.split else ""
    count = benchmark.size or benchmark.rows
    return f"{benchmark.hub}{folders}{split}" + (f", {count:,} items" if count else "")


def preferences() -> str:
    """Every published set of preferences that `mmrl eval rewards` reads."""
    from eval.preferences.sets import SETS

    rows = [(f"`{name}`", each.hub, _names(each.columns)) for name, each in SETS.items()]
    return table(("`--layout`", "data", "columns"), rows)


def configs() -> str:
    """Every config and its keys, from the top ones down."""
    from data_engine.recipe import Recipe
    from data_engine.sources.row_format import Rows
    from data_engine.validate.fault import Limits
    from eval.config import EvalConfig
    from eval.difficulty import DifficultyConfig, DrawnConfig
    from mmrl.train.attack import AttackConfig
    from mmrl.train.config import TrainConfig
    from mmrl.train.reference_scores import ScoreConfig
    from rewards.registry import Call
    from rewards.suite import SuiteConfig

    tops = (Recipe, TrainConfig, EvalConfig, DrawnConfig, DifficultyConfig, ScoreConfig)
    tops += (SuiteConfig, AttackConfig, Call, Rows, Limits)
    return "\n\n".join(f"### {model.__name__}\n\n{config(model)}" for model in configs_below(*tops, *_of_operators()))


def _of_operators() -> list[Any]:
    """The configs that operators take as options."""
    from data_engine.measure.bands import Counts, Spread
    from data_engine.ops.quotas import Division

    return [Counts, Spread, Division]


def commands() -> str:
    """Every verb and action of `mmrl` with its arguments and options."""
    from mmrl.cli import VERBS

    parts = []
    for verb, (place, about, *_) in VERBS.items():
        parts.append(f"### mmrl {verb}\n\n{about}")
        command = typer.main.get_command(resolve_name(place))
        parts += [_command(f"mmrl {path}", each) for path, each in _actions(verb, command)]
    return "\n\n".join(parts)


def _actions(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands below `command` with the words that call them."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _actions(f"{path} {name}", inner)
    if not hasattr(command, "commands"):
        yield path, command


def _command(path: str, command: Any) -> str:
    shown = {
        (each.metavar or each.name.upper()) if "Argument" in type(each).__name__ else each.opts[0]: each
        for each in command.params
    }
    words = " ".join([path, *(name for name in shown if not name.startswith("-"))])
    rows = [(f"`{name}`", getattr(each, "help", None) or "") for name, each in shown.items() if name != "--help"]
    about = prose(inspect.cleandoc(command.help or ""))
    return f"#### {path}\n\n    {words}\n\n{about}\n\n{table(('argument or option', 'means'), rows)}"


def extras() -> str:
    """The extras of the package and what each installs."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return table(("extra", "installs"), [(f"`{name}`", ", ".join(packages)) for name, packages in named.items()])


def _doc(function: Callable[..., Any]) -> str:
    return inspect.getdoc(function) or ""


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        *(rewards, operators, sources, estimators, checks, tasks, benchmarks, preferences),
        *(configs, commands, extras, prompts, papers, tools, outcomes),
    )
}
