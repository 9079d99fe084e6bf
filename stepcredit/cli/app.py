"""The application: verbs in the order in which a newcomer meets them."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from stepcredit.cli.crediting import credit
from stepcredit.cli.evaluating import evaluate
from stepcredit.cli.looking import doctor, recipes, report, status
from stepcredit.cli.programs import demo, judge, run, train

VERBS: tuple[Callable[..., Any], ...] = (demo, judge, run, credit, train, evaluate, report, status, recipes, doctor)
"""Every verb; its function's name is its word, its docstring its help."""

app = typer.Typer(
    name="stepcredit",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _verb in VERBS:
    app.command()(_verb)


@app.callback(invoke_without_command=True)
def stepcredit(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Process rewards for reasoning language models.

    Judge every step of a solution, turn the verdicts into credit for every token, train on it.

    Judges here are what others call verifiers, graders or process reward models (PRMs); a rollout is a trace or a
    trajectory; a completion is a response. Exit codes: 0 complete, 1 bug, 2 usage, 3 environment, 4 budget,
    5 partial, 130 interrupted.
    """
    if version:
        from stepcredit.report.page import package_version  # noqa: PLC0415 -- start-up stays quick

        typer.echo(f"stepcredit {package_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
