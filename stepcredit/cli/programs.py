"""Verbs that walk the path: demo, train, judge, run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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
    SkipBadOption,
    UnsafeOption,
    folder_for,
    told,
    with_flags,
)


class Preset(StrEnum):
    """How much the demo does."""

    QUICK = "quick"
    FULL = "full"


class FileJudge(StrEnum):
    """Judges that need no training."""

    MARKERS = "markers"
    CRITIC = "critic"
    STEP_CRITIC = "step-critic"
    INTRINSIC = "intrinsic"
    THINKPRM = "thinkprm"
    GENPRM = "genprm"
    DISCRIMINATIVE = "discriminative"
    THINK_RM = "think-rm"
    SPCT = "spct"


class Stage(StrEnum):
    """Stages of the path on recorded solutions, in order."""

    CHECK = "check"
    SPLIT = "split"
    JUDGE = "judge"
    CREDIT = "credit"


class GroupBy(StrEnum):
    """What makes recorded solutions comparable."""

    PROBLEM_AND_MODEL = "problem-and-model"
    PROBLEM = "problem"


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; intervals are over them.")] = 1,
    preset: Annotated[
        Preset, typer.Option(help="quick fits a laptop's minutes, full is for intervals.")
    ] = Preset.QUICK,
    out: OutOption = None,
    exhibit: Annotated[bool, typer.Option("--exhibit", help="Also train the arm that hacks its reward.")] = False,
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Train a small policy with TP-GRPO and with GRPO, and compare them.

    A real policy, real judges (process reward models, step verifiers) and real updates, on a task that learns on a
    laptop CPU. Writes report.html, summary.json and metrics.jsonl.
    """
    from stepcredit.recipes.extras import require_extra  # noqa: PLC0415

    require_extra("train", job="stepcredit demo")
    from stepcredit.cli.screen import watched  # noqa: PLC0415
    from stepcredit.recipes.demo import RECIPE, DemoSettings, run_demo  # noqa: PLC0415

    run, changes = Path("runs/demo") if out is None else out, tuple(settings or ())
    chosen = DemoSettings(
        seeds=seeds, preset=preset.value, out=run, exhibit=exhibit, recipe=recipe or RECIPE, overrides=changes
    )
    with told(run), watched() as progress:
        run_demo(chosen, progress)


def train(
    arm: Annotated[
        list[str], typer.Option("--arm", help="Method of the recipe to train, such as tp_grpo; may be repeated.")
    ],
    recipe: RecipeOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Train a policy with one method of a recipe: rounds of sample, evaluate, train.

    The same as one arm of the demo, with any key of the recipe changed by --set. A run that was stopped goes on when
    the command is given again.
    """
    from stepcredit.recipes.extras import require_extra  # noqa: PLC0415

    require_extra("train", job="stepcredit train")
    from stepcredit.cli.screen import watched  # noqa: PLC0415
    from stepcredit.recipes.demo import RECIPE, DemoSettings, run_demo  # noqa: PLC0415

    run = Path("runs/train") if out is None else out
    chosen = DemoSettings(
        seeds=seeds, out=run, arms=tuple(arm), recipe=recipe or RECIPE, overrides=tuple(settings or ())
    )
    with told(run), watched() as progress:
        run_demo(chosen, progress)


def judge(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSONL or JSONL.gz: problem, answer or gold, completion or response.")
    ],
    judge: Annotated[
        FileJudge,
        typer.Option(
            help="markers needs no model; critic, step-critic, intrinsic ask a chat server; thinkprm, genprm such a"
            " checkpoint; discriminative reads by a reward model, here or on a server; think-rm, spct ask a chat server"
            " for one score of each whole solution."
        ),
    ] = FileJudge.MARKERS,
    server: ServerOption = None,
    model: ModelOption = None,
    tokenizer: JudgeTokenizerOption = None,
    sandbox: SandboxOption = None,
    unsafe: UnsafeOption = False,
    calibration: CalibrationOption = None,
    max_calls: MaxCallsOption = None,
    max_cost: MaxCostOption = None,
    skip_bad: SkipBadOption = False,
    recipe: RecipeOption = None,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Judge every step of your own solutions (step-level verification, process reward).

    Takes reasoning traces of any model: checks the final answer, cuts the text into steps, gives each step a verdict.
    The judge is what others call a verifier, a grader or a process reward model (PRM).
    """
    from stepcredit.cli.screen import watched  # noqa: PLC0415
    from stepcredit.recipes.recorded import RecordedSettings, run_recorded  # noqa: PLC0415
    from stepcredit.recipes.recorded.settings import RECIPE  # noqa: PLC0415

    run = folder_for(file, verb="judge", out=out)
    chosen = RecordedSettings(
        run,
        judge.value,
        until="judge",
        server=server,
        model=model,
        recipe=recipe or RECIPE,
        overrides=with_flags(settings, sandbox, unsafe=unsafe, calibration=calibration),
        max_calls=max_calls,
        max_cost=max_cost,
        skip_bad=skip_bad,
        judge_tokenizer=tokenizer,
    )
    with told(run), watched() as progress:
        run_recorded(file, chosen, verb="judge", progress=progress)


def run(
    file: Annotated[Path, typer.Option("--input", help="JSONL or JSONL.gz of recorded solutions (reasoning traces).")],
    judge: Annotated[FileJudge, typer.Option(help="Who gives the verdicts on steps.")] = FileJudge.MARKERS,
    credit: Annotated[str, typer.Option(help="Credit rule: tp_grpo, grpo or grpo_ps.")] = "tp_grpo",
    until: Annotated[Stage, typer.Option(help="Last stage to walk.")] = Stage.CREDIT,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder or file of tokenizer.json, for token credit.")] = None,
    group_by: Annotated[
        GroupBy, typer.Option(help="Which solutions are compared with one another.")
    ] = GroupBy.PROBLEM_AND_MODEL,
    server: ServerOption = None,
    model: ModelOption = None,
    judge_tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub id of the judge's model, for thinkprm and genprm.")
    ] = None,
    sandbox: SandboxOption = None,
    unsafe: UnsafeOption = False,
    calibration: CalibrationOption = None,
    max_calls: MaxCallsOption = None,
    max_cost: MaxCostOption = None,
    skip_bad: SkipBadOption = False,
    recipe: RecipeOption = None,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Take recorded solutions along the path: check, split, judge, thoughts, credit for every token.

    Recorded text is tokenised again, so its credit can be looked at and exported, but never trained on.
    """
    from stepcredit.cli.screen import watched  # noqa: PLC0415
    from stepcredit.recipes.recorded import RecordedSettings, run_recorded  # noqa: PLC0415
    from stepcredit.recipes.recorded.settings import RECIPE  # noqa: PLC0415

    chosen = RecordedSettings(
        folder_for(file, verb="run", out=out),
        judge.value,
        credit=credit,
        until=until.value,
        tokenizer=tokenizer,
        group_by=group_by.value,
        server=server,
        model=model,
        recipe=recipe or RECIPE,
        overrides=with_flags(settings, sandbox, unsafe=unsafe, calibration=calibration),
        max_calls=max_calls,
        max_cost=max_cost,
        skip_bad=skip_bad,
        judge_tokenizer=judge_tokenizer,
    )
    with told(chosen.out), watched() as progress:
        run_recorded(file, chosen, progress=progress)
