"""Options that several verbs share, and the last lines that every program prints."""

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; giving it again goes on.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of the recipe; may be repeated."),
]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="TOML file of settings; see `stepcredit recipes`.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, as given to --out.")]


def folder_for(file: Path, *, verb: str, out: Path | None) -> Path:
    """The run folder: `--out`, or `runs/VERB-FILE` without the file's endings.

    >>> folder_for(Path("data/traces.jsonl.gz"), verb="judge", out=None).as_posix()
    'runs/judge-traces'
    """
    return Path("runs") / f"{verb}-{file.name.split('.')[0]}" if out is None else out


def tell(run: Path) -> None:
    """Print what the run showed (tables and closing sentence) and where its page is."""
    from rich.console import Console  # noqa: PLC0415 -- start-up stays quick

    from stepcredit.recipes.report_run import PAGE, show_run  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(show_run(run, limit=0))
    console.print(f"\nreport: {run / PAGE}", markup=False, soft_wrap=True)
