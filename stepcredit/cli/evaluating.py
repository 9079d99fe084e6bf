"""The verb that measures: evaluate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.cli.options import (
    CalibrationOption,
    JudgeTokenizerOption,
    MaxCallsOption,
    MaxCostOption,
    ModelOption,
    OutOption,
    RecipeOption,
    SandboxOption,
    ServerOption,
    SetOption,
    UnsafeOption,
    told,
    with_flags,
)
from stepcredit.core.errors import UsageError

if TYPE_CHECKING:
    from stepcredit.recipes.evaluating.settings import PolicySettings

WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="SET|FILE",
        help="For a judge: processbench, prmbench, mr-gsm8k, mr-ben, bigbench-mistake, or a file of problem, steps,"
        " label. For attempts: gsm8k, math-500, aime24, aime25, amc23, olympiadbench, minerva, gpqa, livecodebench,"
        " or a file of problem, answer.",
    ),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(help="As `stepcredit judge`; for reference perfect, constant-right, constant-wrong, random."),
]
DataOption = Annotated[Path, typer.Option(help="Folder that holds the set's folder, or the set's files.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Judge so many solutions, spread evenly over the set.")]
ThresholdOption = Annotated[
    str | None, typer.Option(help="Choose the threshold on this split, score the others with it.")
]
CalibrateOption = Annotated[
    str | None, typer.Option(help="Fit a temperature on this split, write calibration.json, show it on the others.")
]
CompareOption = Annotated[
    Path | None, typer.Option(help="Run folder of another judge on the same solutions: a paired test.")
]
ResponsesOption = Annotated[
    Path | None, typer.Option(help="Measure attempts instead: a file of problem or problem_id, completion.")
]
HubOption = Annotated[bool, typer.Option("--hub", help="With --responses: the problems from the Hugging Face hub.")]
KOption = Annotated[
    list[int] | None, typer.Option("--k", min=1, help="With --responses: k of pass@k and maj@k; may be repeated.")
]


def evaluate(
    what: WhatArgument,
    judge: JudgeOption = None,
    server: ServerOption = None,
    model: ModelOption = None,
    tokenizer: JudgeTokenizerOption = None,
    sandbox: SandboxOption = None,
    unsafe: UnsafeOption = False,
    calibration: CalibrationOption = None,
    data: DataOption = Path("data"),
    limit: LimitOption = None,
    threshold_from: ThresholdOption = None,
    calibrate_from: CalibrateOption = None,
    compare: CompareOption = None,
    max_calls: MaxCallsOption = None,
    max_cost: MaxCostOption = None,
    responses: ResponsesOption = None,
    hub: HubOption = False,
    k: KOption = None,
    recipe: RecipeOption = None,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Measure a judge on step-labelled solutions, or models on recorded attempts.

    A judge (verifier, process reward model): official metrics with 95% intervals, coverage, tokens and cost,
    calibration, by step position and by generator. Attempts (responses of a model): avg@n, unbiased pass@k, maj@k.
    """
    from stepcredit.recipes.evaluating.settings import RECIPE, EvaluateSettings, PolicySettings  # noqa: PLC0415

    overrides, name = (
        with_flags(settings, sandbox, unsafe=unsafe, calibration=calibration),
        Path(what).name.split(".")[0],
    )
    if responses is not None:
        of_judges = {"--judge": judge, "--server": server, "--model": model, "--tokenizer": tokenizer, "--limit": limit}
        of_judges |= {"--compare": compare, "--calibration": calibration, "--calibrate-from": calibrate_from}
        of_judges |= {"--threshold-from": threshold_from, "--max-calls": max_calls, "--max-cost": max_cost}
        _refuse(of_judges, "asks or compares judges, and --responses measures attempts")
        run = out or Path("runs") / f"evaluate-{name}-{responses.name.split('.')[0]}"
        _attempts(what, PolicySettings(run, responses, data, hub, tuple(k or ()), recipe or RECIPE, overrides))
        return
    _refuse({"--hub": hub or None, "--k": k}, "belongs to recorded attempts, which --responses FILE names")
    chosen = EvaluateSettings(
        out or Path("runs") / f"evaluate-{name}-{judge or 'markers'}",
        judge or "markers",
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
        tokenizer=tokenizer,
        calibrate_from=calibrate_from,
    )
    from stepcredit.cli.screen import watched  # noqa: PLC0415 -- start-up stays quick
    from stepcredit.recipes.evaluating.run import run_evaluation  # noqa: PLC0415

    with told(chosen.out), watched() as progress:
        run_evaluation(what, chosen, progress=progress)


def _attempts(what: str, settings: "PolicySettings") -> None:
    from stepcredit.cli.screen import watched  # noqa: PLC0415
    from stepcredit.recipes.evaluating.policy import run_policies  # noqa: PLC0415

    with told(settings.out), watched() as progress:
        run_policies(what, settings, progress=progress)


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse flags that have no effect here.

    Raises:
        UsageError: naming the first.
    """
    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag} {why}; leave one of them out")
