"""The `mmrl` command. Each verb is imported only when it is used, so `mmrl --help` is instant."""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from typing import NoReturn

VERBS = {  # verb: its app, what it does, the extra of the package that it needs
    "data": ("mmrl.commands.data:app", "Build, look at and check datasets.", "data"),
    "train": ("mmrl.commands.train:app", "Train a model: SFT warm-up, GRPO, or both.", "train"),
    "eval": ("mmrl.commands.eval:app", "Evaluate a model and compare evaluations.", "train"),
    "serve": ("mmrl.commands.serve:app", "Serve a model with vLLM, for rollouts and evaluations.", "train"),
    "reward": ("mmrl.commands.reward:app", "Try any reward offline.", "rewards"),
    "view": ("mmrl.commands.view:app", "Look at the rollouts of a run or at a dataset.", "data"),
    "demo": ("mmrl.commands.demo:app", "The whole path on a CPU in minutes, on real data.", "demo"),
}


def usage() -> str:
    """The text of `mmrl --help`."""
    verbs = "\n".join(f"  {verb:8}{text}" for verb, (_, text, _) in VERBS.items())
    return (
        f"Usage: mmrl VERB [ACTION] [CONFIG] [key=value ...]\n\n{verbs}\n\n"
        "`mmrl VERB --help` explains a verb, `mmrl --version` prints the version."
    )


def version() -> str:
    """The text of `mmrl --version`."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return f"mmrl {version_of('mmrl-stack')}"
    except PackageNotFoundError:
        return "mmrl, from a folder that is not installed"


def main() -> NoReturn:
    """Run the verb named on the command line."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("--help", "-h", "--version"):
        print(version() if verb == "--version" else usage())
        sys.exit(0)
    if verb not in VERBS:
        from mmrl.core.config import nearest

        print(f"mmrl: unknown verb {verb!r}; {nearest(verb, VERBS)}", file=sys.stderr)
        sys.exit(2)
    run(f"mmrl {verb}", VERBS[verb][0], sys.argv[2:])


def run(program: str, target: str, arguments: list[str]) -> NoReturn:
    """Run the typer app at `target` ("module:attribute") as `program`, and exit.

    Wrong input is one line on stderr and status 2; a run that cannot continue is one line and status 1.
    """
    from mmrl.core.config import InputError
    from mmrl.core.failures import reported
    from mmrl.core.own_code import leave_working_folder

    leave_working_folder()
    with reported(program):
        try:
            resolve_name(target)(arguments, prog_name=program)
        except ModuleNotFoundError as error:
            package = (error.name or "mmrl").partition(".")[0]
            if package in ("mmrl", "rewards", "data_engine", "eval"):
                raise
            extra = next((extra for app, _, extra in VERBS.values() if app == target), "train")
            raise InputError(f"the package {package} is missing; pip install 'mmrl-stack[{extra}]'") from None
    sys.exit(0)


if __name__ == "__main__":
    main()
