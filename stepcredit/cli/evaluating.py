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
from stepcredit.core.errors import UsageError


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SET|FILE",
            help="For a judge: processbench, prmbench, mr-gsm8k, mr-ben, bigbench-mistake, or a file of problem, steps,"
            " label. For attempts: gsm8k, math-500, aime24, aime25, amc23, olympiadbench, minerva, gpqa, livecodebench,"
            " or a file of problem, answer.",
        ),
    ],
    judge: Annotated[
        str | None,
        typer.Option(help="markers (default), critic; for reference perfect, constant-right, constant-wrong, random."),
    ] = None,
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
    responses: Annotated[
        Path | None, typer.Option(help="Measure attempts instead: a file of problem or problem_id, completion.")
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="With --responses: the problems from the Hugging Face hub.")
    ] = False,
    k: Annotated[
        list[int] | None, typer.Option("--k", min=1, help="With --responses: pass@k, maj@k; repeatable.")
    ] = None,
    recipe: RecipeOption = None,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Measure a judge on step-labelled solutions, or models on recorded attempts.

    A judge (verifier, process reward model): official metrics with 95% intervals, coverage, tokens and cost,
    calibration, by step position and by generator. Attempts (responses of a model): avg@n, unbiased pass@k, maj@k.
    """
    from stepcredit.cli.screen import watched  # noqa: PLC0415 -- start-up stays quick
    from stepcredit.recipes.evaluating.settings import RECIPE, EvaluateSettings, PolicySettings  # noqa: PLC0415

    overrides, name = tuple(settings or ()), Path(what).name.split(".")[0]
    if responses is not None:
        from stepcredit.recipes.evaluating.policy import run_policies  # noqa: PLC0415

        _refuse({"--judge": judge, "--server": server, "--model": model, "--limit": limit, "--compare": compare,
                 "--threshold-from": threshold_from, "--max-calls": max_calls, "--max-cost": max_cost},
                "asks or compares judges, and --responses measures attempts")  # fmt: skip
        stem = responses.name.split(".")[0]
        run = Path("runs") / f"evaluate-{name}-{stem}" if out is None else out
        attempts = PolicySettings(run, responses, data, hub, tuple(k or ()), recipe or RECIPE, overrides)
        with told(run), watched() as progress:
            run_policies(what, attempts, progress=progress)
        return
    from stepcredit.recipes.evaluating.run import run_evaluation  # noqa: PLC0415

    _refuse({"--hub": hub or None, "--k": k}, "belongs to recorded attempts, which --responses FILE names")
    asked = judge or "markers"
    chosen = EvaluateSettings(
        Path("runs") / f"evaluate-{name}-{asked}" if out is None else out,
        asked,
        data=data,
        limit=limit,
        threshold_from=threshold_from,
        compare=compare,
        server=server,
        model=model,
        recipe=recipe or RECIPE,
        overrides=overrides,
        max_calls=max_calls,
        max_cost=max_cost,
    )
    with told(chosen.out), watched() as progress:
        run_evaluation(what, chosen, progress=progress)


def _refuse(given: dict[str, object], why: str) -> None:
    """Refuse flags that have no effect here.

    Raises:
        UsageError: naming the first.
    """
    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag} {why}; leave one of them out")
