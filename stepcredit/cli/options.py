"""Options that several verbs share, and the last lines that every program prints."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stepcredit.core.errors import PartialError

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; giving it again goes on.")]


class Sandboxes(StrEnum):
    """Where a judge's code is run."""

    OFF = "off"
    AUTO = "auto"
    WASM = "wasm"
    BWRAP = "bwrap"
    RLIMIT = "rlimit"


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of the recipe; may be repeated."),
]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="TOML file of settings; see `stepcredit recipes`.")]
ServerOption = Annotated[
    str | None,
    typer.Option(help="Address of the judge's server: OpenAI-style chat; vLLM for thinkprm, genprm, discriminative."),
]
JudgeTokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", "--judge-tokenizer", help="Folder or hub id of the judge's tokenizer."),
]
SandboxOption = Annotated[
    Sandboxes | None,
    typer.Option(help="Run the code that genprm writes; without it genprm only analyses."),
]
UnsafeOption = Annotated[
    bool, typer.Option("--i-accept-unsafe-exec", help="Consent to --sandbox rlimit, which confines nothing.")
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(help="calibration.json of an evaluation with --calibrate-from: corrects the judge's probabilities."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Name of the model on that server, if it has several; discriminative: or a folder, a hub id."),
]
MaxCallsOption = Annotated[
    int | None,
    typer.Option(
        "--max-calls", min=1, help="Stop cleanly (exit 4) after so many requests, over all sessions of the run."
    ),
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        min=0.0,
        help="The same for what they cost; needs --set server.input_price=P and server.output_price=P (of a million).",
    ),
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out lines of the file that cannot be used, and count them.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, as given to --out.")]


def folder_for(file: Path, *, verb: str, out: Path | None) -> Path:
    """The run folder: `--out`, or `runs/VERB-FILE` without the file's endings.

    >>> folder_for(Path("data/traces.jsonl.gz"), verb="judge", out=None).as_posix()
    'runs/judge-traces'
    """
    return Path("runs") / f"{verb}-{file.name.split('.')[0]}" if out is None else out


@contextmanager
def told(run: Path) -> Generator[None]:
    """When the program in this block ends, whole or in part, print its tables and where its page is."""
    try:
        yield
    except PartialError:
        _tell(run)
        raise
    _tell(run)


def _tell(run: Path) -> None:
    from rich.console import Console  # noqa: PLC0415 -- start-up stays quick

    from stepcredit.recipes.report_run import PAGE, SAVED, show_run, token_credit  # noqa: PLC0415

    if (run / SAVED).exists():
        console = Console(highlight=False)
        console.print(show_run(run, limit=0))
        console.print(f"\nreport: {run / PAGE}", markup=False, soft_wrap=True)
        columns = token_credit(run)
        if columns is not None:
            console.print(f"token credit: {columns} (numpy.load reads it)", markup=False, soft_wrap=True)


def with_flags(
    settings: list[str] | None, sandbox: Sandboxes | None, *, unsafe: bool, calibration: Path | None
) -> tuple[str, ...]:
    """`--set`, the two flags of the sandbox and the calibration as overrides of a recipe."""
    found = list(settings or ())
    found += [] if calibration is None else [f"calibration.file={json.dumps(str(calibration))}"]
    found += [] if sandbox is None else [f"sandbox.engine={sandbox.value}"]
    found += ["sandbox.accept_unsafe_exec=true"] if unsafe else []
    return tuple(found)
