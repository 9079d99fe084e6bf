"""Verbs that only look: report, status, recipes, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from stepcredit.cli.options import RunArgument
from stepcredit.core.errors import MachineError


def report(
    run: RunArgument,
    terminal: Annotated[bool, typer.Option("--terminal", help="Show it here instead of writing the page.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="With --terminal: solutions to show.")] = 5,
) -> None:
    """Write the offline step viewer of a run, or show it in the terminal.

    One HTML file that opens from disk: tables, plots, and every solution (trace) with its steps, thoughts, verdicts
    and coloured token advantages.
    """
    from rich.console import Console  # noqa: PLC0415 -- start-up stays quick

    from stepcredit.recipes.report_run import report_run, show_run  # noqa: PLC0415

    if terminal:
        Console(highlight=False).print(show_run(run, limit=limit))
    else:
        typer.echo(report_run(run))


def status(run: RunArgument) -> None:
    """Say where a run stands and how to go on."""
    from rich.console import Console  # noqa: PLC0415

    from stepcredit.recipes.status import run_status  # noqa: PLC0415
    from stepcredit.report import terminal_table  # noqa: PLC0415

    found = run_status(run)
    Console(highlight=False).print(terminal_table(found.table()))
    typer.echo(found.next_step)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's TOML, to copy and change.")] = None,
) -> None:
    """List the recipes that ship, or print one."""
    from rich.console import Console  # noqa: PLC0415

    from stepcredit.recipes.catalogue import shipped_recipe, shipped_recipes  # noqa: PLC0415
    from stepcredit.report import TableView, terminal_table  # noqa: PLC0415

    if name is not None:
        typer.echo(shipped_recipe(name).text, nl=False)
        return
    rows = tuple((recipe.name, recipe.about) for recipe in shipped_recipes())
    Console(highlight=False).print(terminal_table(TableView("recipes", ("name", "what it does"), rows)))


def doctor(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder that runs would go to.")] = Path("runs"),
    build: Annotated[bool, typer.Option("--build", help="Build what engine wasm runs, if it is not there.")] = False,
) -> None:
    """Look at this machine: Python, packages, extras, disk; say what is missing and the line that installs it.

    Then try the sandbox: hostile programs that each engine must contain, and benign ones that must work.
    """
    from rich.console import Console  # noqa: PLC0415

    from stepcredit.recipes.doctor import examine, examine_sandbox, findings_table, trials_table  # noqa: PLC0415
    from stepcredit.report import terminal_table  # noqa: PLC0415

    if build:
        typer.echo("building the WebAssembly component, if it is not there: half a minute")
    engines, trials = examine_sandbox(build=build)
    findings = (*examine(folder), *engines)
    console = Console(highlight=False)
    console.print(terminal_table(findings_table(findings)))
    if trials:
        console.print(terminal_table(trials_table(trials)))
    bad = [finding.what for finding in findings if finding.health == "bad"]
    if bad:
        raise MachineError(f"this machine cannot run stepcredit yet: {', '.join(bad)} (the table says how to mend it)")
