"""The verb that compares: rollouts that are there already under several credit rules, side by side."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.cli.options import SetOption
from stepcredit.cli.programs import GroupBy

if TYPE_CHECKING:
    from stepcredit.recipes.xray.run import CreditXray


class XrayTruth(StrEnum):
    """Whose truth signs are compared with."""

    AUTO = "auto"
    LABELS = "labels"
    VERDICTS = "verdicts"


class TextJudge(StrEnum):
    """Who gives verdicts on text that has none."""

    MARKERS = "markers"
    NONE = "none"


RolloutsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER_OR_FILE",
        help="Run folder of demo, train, judge or run; JSONL that judge reads; log of a TRL or verl run.",
    ),
]
CompareOption = Annotated[
    list[str] | None,
    typer.Option("--compare", metavar="RULE[,RULE...]", help="Rules; RULE@NAME is a variant; without it: all."),
]
ValuesOption = Annotated[
    Path | None, typer.Option(help="JSONL of Monte-Carlo values: id, and values (-1..1) or success (0..1) by step.")
]
ContinuationsOption = Annotated[
    int | None, typer.Option(min=1, help="Take the values now: so many continuations a prefix (embedded worlds).")
]
TruthOption = Annotated[XrayTruth, typer.Option(help="What signs are compared with.")]
ArmOption = Annotated[str | None, typer.Option(help="demo, train: method to look at.")]
SeedOption = Annotated[int | None, typer.Option(help="demo, train: seed.")]
RoundOption = Annotated[int | None, typer.Option("--round", min=0, help="demo, train: round, else last.")]
ProblemsOption = Annotated[int | None, typer.Option(min=1, help="Take the first so many problems only.")]
TextJudgeOption = Annotated[
    TextJudge | None, typer.Option(help="JSONL, TRL, verl: who gives verdicts on text that has none; else markers.")
]
PolicyTokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", help="Recorded text: tokenizer of the policy; else bytes.")
]
GroupByOption = Annotated[
    GroupBy | None,
    typer.Option(help="JSONL, judge, run: which solutions are compared with one another; else problem-and-model."),
]
OutcomeOption = Annotated[str | None, typer.Option(help="TRL, verl: column with the outcome's number.")]
GroupSizeOption = Annotated[int | None, typer.Option(min=2, help="TRL, verl: completions of each prompt.")]
RightAboveOption = Annotated[
    float | None, typer.Option(help="TRL, verl: a reward above it is right, any other wrong; else 0.5.")
]
InputOption = Annotated[
    Path | None, typer.Option("--input", help="judge, run: the file that was judged, if it was moved.")
]
ShowOption = Annotated[int, typer.Option(min=0, help="Solutions shown side by side on the page.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of tables.")]
ResultOption = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the result: runs/credit-NAME.")]


def credit(
    rollouts: RolloutsArgument,
    compare: CompareOption = None,
    values: ValuesOption = None,
    continuations: ContinuationsOption = None,
    truth: TruthOption = XrayTruth.AUTO,
    arm: ArmOption = None,
    seed: SeedOption = None,
    round_index: RoundOption = None,
    problems: ProblemsOption = None,
    judge: TextJudgeOption = None,
    tokenizer: PolicyTokenizerOption = None,
    group_by: GroupByOption = None,
    outcome: OutcomeOption = None,
    group_size: GroupSizeOption = None,
    right_above: RightAboveOption = None,
    input_file: InputOption = None,
    show: ShowOption = 12,
    as_json: JsonOption = False,
    out: ResultOption = None,
    settings: SetOption = None,
) -> None:
    """Pay rollouts that are there already by several credit rules, and compare what they pay (credit X-ray).

    For each rule: share of rollouts paid, mean and variance of token advantages, agreement of their signs with the
    truth of steps, and correlation with Monte-Carlo values where there are any. The page shows the same solution under
    each rule, one row a rule. A rule whose signals are not there is left out, by name. Nothing is trained.
    """
    from stepcredit.cli.screen import watched  # noqa: PLC0415 -- start-up stays quick
    from stepcredit.recipes.xray.recorded import TextSettings  # noqa: PLC0415
    from stepcredit.recipes.xray.run import run_xray  # noqa: PLC0415
    from stepcredit.recipes.xray.settings import XraySettings  # noqa: PLC0415

    text = TextSettings(
        judge=None if judge is None else judge.value,
        tokenizer=tokenizer,
        group_by=None if group_by is None else group_by.value,
        outcome=outcome,
        group_size=group_size,
        right_above=right_above,
        input=input_file,
    )
    chosen = XraySettings(
        out=Path("runs") / f"credit-{rollouts.resolve().name.split('.')[0]}" if out is None else out,
        compare=tuple(compare or ()),
        overrides=tuple(settings or ()),
        values=values,
        continuations=continuations,
        truth=truth.value,
        arm=arm,
        seed=seed,
        round=round_index,
        problems=problems,
        show=show,
        text=text,
    )
    with watched() as progress:
        found = run_xray(rollouts, chosen, progress)
    _show(found, as_json=as_json)


def _show(found: "CreditXray", *, as_json: bool) -> None:
    """What was found, on standard output; what is to be feared of it, on standard error."""
    from rich.console import Console  # noqa: PLC0415 -- start-up stays quick

    from stepcredit.recipes.xray.run import json_of  # noqa: PLC0415
    from stepcredit.report import terminal_report  # noqa: PLC0415

    if found.warning:
        typer.echo(f"warning: {found.warning}", err=True)
    if as_json:
        typer.echo(json_of(found.payload).decode(), nl=False)
        return
    console = Console(highlight=False)
    console.print(terminal_report(found.data, limit=0))
    console.print(f"\nreport: {found.page}", markup=False, soft_wrap=True)
