"""The `mmrl` command. Each verb is imported only when it is used, so `mmrl --help` is instant."""

from __future__ import annotations

import os
import sys
from pkgutil import resolve_name
from typing import Any, NoReturn

VERBS = {  # verb: its app, what it does, the extra of the package that it needs
    "init": ("mmrl.commands.init:app", "Write a folder with configs to start from.", "data"),
    "data": ("mmrl.commands.data:app", "Build, look at and check datasets.", "data"),
    "train": ("mmrl.commands.train:app", "Train a model: SFT warm-up, GRPO, or both.", "train"),
    "eval": ("mmrl.commands.eval:app", "Evaluate a model and compare evaluations.", "train"),
    "serve": ("mmrl.commands.serve:app", "Serve a model with vLLM, for rollouts and evaluations.", "train"),
    "ask": ("mmrl.commands.ask:app", "Ask a model about pictures and videos.", "train"),
    "reward": ("mmrl.commands.reward:app", "Try any reward offline.", "rewards"),
    "view": ("mmrl.commands.view:app", "Look at the rollouts of a run or at a dataset.", "data"),
    "demo": ("mmrl.commands.demo:app", "The whole path on a CPU in minutes, on real data.", "demo"),
}
RESUMED = ("train", "eval run", "data build", "data difficulty", "demo")  # the same command goes on after Ctrl-C
COMPLETION = ("--install-completion", "--show-completion")
ASKED_BY_SHELL = "_MMRL_COMPLETE"  # set where a shell asks for the words that fit


def usage() -> str:
    """The text of `mmrl --help`."""
    verbs = "\n".join(f"  {verb:8}{text}" for verb, (_, text, _) in VERBS.items())
    return (
        f"Usage: mmrl VERB [ACTION] [CONFIG] [key=value ...]\n\n{verbs}\n\n"
        "`mmrl VERB --help` explains a verb, `mmrl --version` prints the version,\n"
        "`mmrl --install-completion` lets the shell complete verbs and options."
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
    if verb in COMPLETION or ASKED_BY_SHELL in os.environ:
        run("mmrl", "mmrl.cli:all_verbs", sys.argv[1:])
    if verb in ("--help", "-h", "--version", "-V"):
        print(version() if verb in ("--version", "-V") else usage())
        sys.exit(0)
    if verb not in VERBS:
        from mmrl.core.config import nearest

        print(f"mmrl: unknown verb {verb!r}; {nearest(verb, VERBS)}", file=sys.stderr)
        sys.exit(2)
    run(f"mmrl {verb}", VERBS[verb][0], sys.argv[2:])


def all_verbs(arguments: list[str], *, prog_name: str) -> None:
    """All verbs as one command, which is what a shell completes; each is imported when its own words are asked for."""
    import typer
    from typer.core import TyperGroup

    class Verbs(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(VERBS)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return typer.main.get_command(resolve_name(VERBS[cmd_name][0])) if cmd_name in VERBS else None

    app = typer.Typer(cls=Verbs, add_completion=True)
    app.callback()(lambda: None)  # a group, with the options of completion
    app(arguments, prog_name=prog_name)


def run(program: str, target: str, arguments: list[str]) -> NoReturn:
    """Run the typer app at `target` ("module:attribute") as `program`, and exit.

    Wrong input is one line on stderr and status 2; a run that cannot continue is one line and status 1.
    """
    from mmrl.core.config import InputError
    from mmrl.core.extras import missing, widened
    from mmrl.core.failures import reported
    from mmrl.core.own_code import leave_working_folder

    leave_working_folder()
    needed = next((extra for app, _, extra in VERBS.values() if app == target), "train")
    with reported(program):
        try:
            resolve_name(target)(arguments, prog_name=program)
        except InputError as error:
            raise InputError(widened(str(error), needed)) from None
        except ModuleNotFoundError as error:
            if not (text := missing(error, needed)):
                raise
            raise InputError(text) from None
        except SystemExit as end:
            if end.code == 130:  # Ctrl-C
                verb = " ".join([program.rpartition(" ")[2], *arguments])
                goes_on = f"{verb} ".startswith(tuple(f"{name} " for name in RESUMED))
                print(f"{program}: stopped{'; the same command goes on from here' if goes_on else ''}", file=sys.stderr)
            raise
    sys.exit(0)


if __name__ == "__main__":
    main()
