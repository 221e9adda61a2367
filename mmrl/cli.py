"""The `mmrl` command. Each verb is imported only when it is asked for, so `mmrl --help` is instant."""

from __future__ import annotations

import os
import sys
from pkgutil import resolve_name
from typing import NoReturn

VERBS = {
    "data": ("mmrl.commands.data:app", "Build, look at and check datasets."),
    "train": ("mmrl.commands.train:app", "Train a model: SFT warm-up, GRPO, or both."),
    "eval": ("mmrl.commands.eval:app", "Evaluate a model and compare evaluations."),
    "reward": ("mmrl.commands.reward:app", "Try any reward offline."),
    "view": ("mmrl.commands.view:app", "Look at the rollouts of a run or at a dataset."),
    "demo": ("mmrl.commands.demo:app", "The whole path on a CPU in minutes, on real data."),
}


def usage() -> str:
    """The text of `mmrl --help`."""
    verbs = "\n".join(f"  {verb:8}{text}" for verb, (_, text) in VERBS.items())
    return f"Usage: mmrl VERB [ACTION] [CONFIG] [key=value ...]\n\n{verbs}\n\n`mmrl VERB --help` says more."


def main() -> NoReturn:
    """Run the verb named on the command line."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("--help", "-h"):
        print(usage())
        sys.exit(0)
    if verb not in VERBS:
        print(f"mmrl: unknown verb {verb!r}; known: {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    run(f"mmrl {verb}", VERBS[verb][0], sys.argv[2:])


def run(program: str, target: str, arguments: list[str]) -> NoReturn:
    """Run the typer app at `target`; what a user typed wrong is one line on stderr and exit status 2."""
    from mmrl.core.config import InputError

    sys.path.append(os.getcwd())  # so that `my_lab.rewards:brevity` is found beside the config
    try:
        resolve_name(target)(arguments, prog_name=program)
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
