"""Settings of an evaluation: what the command line asks for, and the schema of `evaluate.toml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from pydantic import Field

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.calibration import Binning
from stepcredit.recipes.loading import Section, load_recipe
from stepcredit.recipes.recorded.code_running import SandboxPart
from stepcredit.recipes.recorded.scoring import DiscriminativePart
from stepcredit.recipes.recorded.settings import CheckerPart, JudgePart, LimitsPart, ReportPart, ServerPart
from stepcredit.recipes.recorded.wrapping import BudgetPart, CalibrationPart
from stepcredit.recipes.recorded.writing_parts import GenPrmPart, ThinkPRMPart

RECIPE = Path(__file__).parents[1] / "evaluate.toml"

DATA = Path("data")
"""Where the sets are looked for unless `--data` names a folder."""


class MetricsPart(Section):
    """`[metrics]`: how judges are scored.

    `threshold`: a step whose score is below it is called wrong; where it is not set, 0.5 of probabilities and of 0 and
    1, and 0 of signed scores and log ratios. `seed` and `resamples` are those of the bootstrap, `seed` that of the
    judge `random` too. `bins` and `binning` are those of the reliability table. `last_position`: this step position
    and all later ones share a row.
    """

    seed: int
    resamples: int = Field(ge=1)
    bins: int = Field(ge=1)
    binning: Binning
    last_position: int = Field(ge=0)
    threshold: float | None = None


class ReasonsPart(Section):
    """`[reasons]`: who says whether the reason that a judge gave is the true one; without it there is no MR-Score.

    `server` and `model` name a chat model that compares it with the recorded one; `max_tokens`, `temperature` and
    `seed` say how. Waits and prices are those of `[server]`, and its calls count against the judge's limits. `labels`
    is a file of grades instead: `id` and `reason_right` (true, false, or null: not known) a line.
    """

    server: str | None = None
    model: str | None = None
    labels: str | None = None
    max_tokens: int | None = Field(ge=1, default=None)
    temperature: float | None = Field(ge=0, default=None)
    seed: int | None = None


class EvaluateRecipe(Section):
    """The whole of `evaluate.toml`; what `recorded.toml` has too means the same here.

    `[checker]` is read where policies are measured, the sections of judges and `[server]` where judges are.
    """

    checker: CheckerPart
    judge: JudgePart = JudgePart()
    thinkprm: ThinkPRMPart = ThinkPRMPart()
    genprm: GenPrmPart = GenPrmPart()
    discriminative: DiscriminativePart = DiscriminativePart()
    sandbox: SandboxPart = SandboxPart()
    server: ServerPart = ServerPart()
    reasons: ReasonsPart = ReasonsPart()
    budget: BudgetPart = BudgetPart()
    calibration: CalibrationPart = CalibrationPart()
    limits: LimitsPart
    metrics: MetricsPart
    report: ReportPart


@final
@dataclass(frozen=True)
class EvaluateSettings:
    """What an evaluation is asked to do.

    Args:
        out: run folder.
        judge: name of the judge, see `recipes.evaluating.judges`.
        data: folder that holds the set's folder, or the set's files.
        limit: judge so many solutions, spread evenly over the set; `None` judges all.
        threshold_from: split on which the threshold is chosen; the others are then scored with it, that one is not.
        compare: run folder of another judge on the same solutions.
        server: address of an OpenAI-style server.
        model: name of the model there; `None` takes the only one.
        recipe: TOML file, or the name of a recipe that ships.
        overrides: `section.key=value`, applied to the recipe.
        max_calls: most requests to the server over all sessions of the run; `None` takes the recipe's.
        max_cost: most cost over all sessions; needs prices in `[server]`; `None` takes the recipe's.
        tokenizer: folder or hub id of the judge's tokenizer, for judges that send token ids.
        calibrate_from: split on which a temperature is fitted; the others are scored, and show what it does.

    Raises:
        UsageError: if `limit` is below 1, a run is to be compared with itself, or splits differ.
    """

    out: Path
    judge: str = "markers"
    data: Path = DATA
    limit: int | None = None
    threshold_from: str | None = None
    compare: Path | None = None
    server: str | None = None
    model: str | None = None
    recipe: Path = RECIPE
    overrides: tuple[str, ...] = ()
    max_calls: int | None = None
    max_cost: float | None = None
    tokenizer: str | None = None
    calibrate_from: str | None = None

    def __post_init__(self) -> None:
        if None not in (self.calibrate_from, self.threshold_from) and self.calibrate_from != self.threshold_from:
            got = f"{self.threshold_from} and {self.calibrate_from}"
            raise UsageError(f"--threshold-from and --calibrate-from must name one split, got {got}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, got {self.limit}")
        if self.compare is not None and self.compare.resolve() == self.out.resolve():
            raise UsageError("a run cannot be compared with itself; --compare names another", item=str(self.out))


@final
@dataclass(frozen=True)
class PolicySettings:
    """What an evaluation of recorded attempts is asked to do.

    Args:
        out: run folder.
        responses: file of the attempts.
        data: folder that holds the set's folder, or its file.
        hub: take the set from the Hugging Face hub instead of `data`.
        ks: attempts that pass@k and maj@k count; empty takes 1, 2, 4 ... up to the fewest attempts at a problem.
        recipe: TOML file, or the name of a recipe that ships.
        overrides: `section.key=value`, applied to the recipe.

    Raises:
        UsageError: for a k below 1.
    """

    out: Path
    responses: Path
    data: Path = DATA
    hub: bool = False
    ks: tuple[int, ...] = ()
    recipe: Path = RECIPE
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ks and min(self.ks) < 1:
            raise UsageError(f"--k must be at least 1, got {min(self.ks)}")


def load_evaluate(overrides: tuple[str, ...] = (), recipe: Path = RECIPE) -> EvaluateRecipe:
    """A recipe of evaluations, by default the one that ships.

    Raises:
        UsageError: for a file that is none, an unknown key or a value out of range.
    """
    return load_recipe(recipe, EvaluateRecipe, overrides=overrides)
