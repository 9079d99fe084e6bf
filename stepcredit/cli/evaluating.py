"""The verb that measures: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from stepcredit.cli.options import (
    MaxCallsOption,
    MaxCostOption,
    ModelOption,
    OutOption,
    RecipeOption,
    ServerOption,
    SetOption,
    told,
)


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SET|FILE",
            help="processbench, prmbench, mr-gsm8k, mr-ben, bigbench-mistake, or a file of problem, steps, label.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            help="markers, critic; for reference perfect, constant-right, constant-wrong, random.",
        ),
    ] = "markers",
    server: ServerOption = None,
    model: ModelOption = None,
    data: Annotated[Path, typer.Option(help="Folder that holds the set's folder, or the set's files.")] = Path("data"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge so many solutions, spread evenly over the set.")
    ] = None,
    threshold_from: Annotated[
        str | None, typer.Option(help="Choose the threshold on this split, score the others with it.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Run folder of another judge on the same solutions: a paired test.")
    ] = None,
    max_calls: MaxCallsOption = None,
    max_cost: MaxCostOption = None,
    recipe: RecipeOption = None,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Measure a judge (verifier, process reward model) on step-labelled solutions.

    Official metrics with 95% intervals, coverage, tokens and cost, calibration, by step position and by generator.
    """
    from stepcredit.cli.screen import watched  # noqa: PLC0415 -- start-up stays quick
    from stepcredit.recipes.evaluating import EvaluateSettings, run_evaluation  # noqa: PLC0415
    from stepcredit.recipes.evaluating.settings import RECIPE  # noqa: PLC0415

    run = Path("runs") / f"evaluate-{Path(what).name.split('.')[0]}-{judge}" if out is None else out
    chosen = EvaluateSettings(
        run,
        judge,
        data=data,
        limit=limit,
        threshold_from=threshold_from,
        compare=compare,
        server=server,
        model=model,
        recipe=recipe or RECIPE,
        overrides=tuple(settings or ()),
        max_calls=max_calls,
        max_cost=max_cost,
    )
    with told(run), watched() as progress:
        run_evaluation(what, chosen, progress=progress)
