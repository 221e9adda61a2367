"""The commands: thin functions over the library."""

import typer


def new_app(actions: str | None = None) -> typer.Typer:
    """An empty command; one that has several actions says with `actions` what they are about.

    Errors are printed by `mmrl.cli.run`, in one line.
    """
    several = {} if actions is None else {"help": actions, "no_args_is_help": True}
    names = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(pretty_exceptions_enable=False, add_completion=False, context_settings=names, **several)
