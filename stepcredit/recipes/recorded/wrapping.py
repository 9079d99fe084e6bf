"""Wrappers of a judge by recipe: `[budget]` ends a run that spends too many tokens, `[calibration]` corrects scores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from stepcredit.core.errors import BudgetError, UsageError
from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.metering import Meter, Spending
from stepcredit.judges.wrappers import OVER_BUDGET, BudgetedJudge, CalibratedJudge
from stepcredit.recipes.loading import Section

CALIBRATION = "calibration.json"
"""File of an evaluation with `--calibrate-from`: the temperature, and the judge that it was fitted for."""


class BudgetPart(Section):
    """`[budget]`: `tokens` is the most that a run's calls read and write, over all its sessions.

    Before a solution is judged, `reserve` tokens are set aside for it: then the limit is never passed, as long as no
    judgement spends more. Without it, solutions under way when the limit is reached may pass it.
    """

    tokens: int | None = Field(ge=1, default=None)
    reserve: int = Field(ge=0, default=0)


class CalibrationPart(Section):
    """`[calibration]`: `file` is the `calibration.json` of an evaluation of the same judge."""

    file: str | None = None


@final
@dataclass(frozen=True)
class SavedCalibration:
    """A temperature, as an evaluation wrote it.

    Args:
        temperature: softens (> 1) or sharpens (< 1) probabilities.
        judge: name of the judge that it was fitted for.
        model: of the judge, empty where the server had only one.
        settings: of the judge.
        set: name of the labelled set.
        sha256: of the set.
        split: on which it was fitted.
        steps: number of labelled steps there.
        at_bound: the fit ran to the end of its range, so that it says nothing.
        log_loss: of these steps, before and after, in nats a step.
        ece: expected calibration error of the other splits, before and after; `None` where they have no scores.
    """

    temperature: float
    judge: str
    model: str
    settings: Mapping[str, Any]
    set: str
    sha256: str
    split: str
    steps: int
    at_bound: bool
    log_loss: tuple[float, float]
    ece: tuple[float, float] | None

    @property
    def told(self) -> str:
        """A few words for the report."""
        return f"temperature {self.temperature:.4g}, fitted on {self.split} of {self.set}"


def calibration_text(found: SavedCalibration) -> str:
    """What `calibration.json` holds."""
    return orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode() + "\n"


def read_calibration(file: Path) -> SavedCalibration:
    """A calibration that an evaluation wrote.

    Raises:
        UsageError: if there is no such file, it is none, or its fit says nothing.
    """
    try:
        found = TypeAdapter(SavedCalibration).validate_json(file.read_bytes())
    except OSError as error:
        mend = "stepcredit evaluate SET --calibrate-from SPLIT writes one into its run folder"
        raise UsageError(f"no calibration can be read there ({error.strerror}); {mend}", item=str(file)) from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole file"
        raise UsageError(f"this is no {CALIBRATION} of an evaluation (see {where})", item=str(file)) from error
    if found.at_bound:
        why = "its fit ran to the end of its range, so it corrects nothing; fit it on a split with more labelled steps"
        raise UsageError(why, item=str(file))
    return found


def calibrated(
    judge: Judge, part: CalibrationPart, *, name: str, model: str | None, settings: Mapping[str, Any]
) -> Judge:
    """The judge, corrected if the recipe says so.

    Args:
        judge: whose scores are corrected.
        part: `[calibration]` of the recipe.
        name: of the judge.
        model: its model, `None` where it was not named.
        settings: of the judge; those of the calibration must be equal.

    Raises:
        UsageError: for a calibration of another judge, or a judge whose scores are no probabilities.
    """
    if part.file is None:
        return judge
    check_probabilities(judge, name)
    found = read_calibration(Path(part.file))
    here = {"judge": name, "model": model or found.model, **as_json(settings)}
    there = {"judge": found.judge, "model": found.model or model or "", **found.settings}
    for key in sorted(here.keys() | there.keys(), key=lambda key: (key not in ("judge", "model"), key)):
        if here.get(key) != there.get(key):
            mend = "fit one for this judge by stepcredit evaluate SET --calibrate-from SPLIT"
            told = f"it was fitted for another judge: {key} is {there.get(key)!r} there and {here.get(key)!r} here"
            raise UsageError(f"{told}; {mend}", item=part.file)
    return CalibratedJudge(judge, temperature=found.temperature)


def calibration_fact(part: CalibrationPart) -> dict[str, str]:
    """What the manifest says of a calibration; nothing where there is none."""
    return {} if part.file is None else {"calibration": read_calibration(Path(part.file)).told}


def check_probabilities(judge: Judge, name: str) -> None:
    """Refuse a judge whose scores cannot be calibrated.

    Raises:
        UsageError: naming what they are.
    """
    if judge.scale is not Scale.PROBABILITY:
        kinds = {Scale.BINARY: "it says right or wrong alone", Scale.RATING: "it scores whole solutions"}
        why = kinds.get(judge.scale, f"its scores are of the kind {judge.scale}")
        mend = "leave --calibration and --calibrate-from out"
        raise UsageError(f"judge {name} gives no probabilities to calibrate: {why}; {mend}")


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file."""
    return orjson.loads(orjson.dumps(dict(settings)))


def check_budget(part: BudgetPart, *, name: str, asks: bool) -> None:
    """Refuse a budget of tokens where none are counted, and a reserve without a budget.

    Raises:
        UsageError: naming the mend.

    >>> check_budget(BudgetPart(tokens=1000), name="critic", asks=True)
    """
    if part.reserve and part.tokens is None:
        raise UsageError("budget.reserve is set aside of budget.tokens, which is not set; add --set budget.tokens=N")
    if part.tokens is not None and part.reserve > part.tokens:
        raise UsageError(f"budget.reserve {part.reserve} is more than all of budget.tokens {part.tokens}")
    if part.tokens is not None and not asks:
        raise UsageError(f"budget.tokens counts the tokens of a server, and judge {name} asks none; leave it out")


@final
class TokenLimit:
    """Ends the run once its budget of tokens has no room; implements `Judge`.

    What was not asked is no verdict: nothing of it is kept, and the same command with a higher limit goes on.

    Args:
        judge: who is asked.
        meter: counts what its model spends.
        part: `[budget]` of the recipe, with `tokens`.

    Source: own. Differs: none.
    """

    def __init__(self, judge: Judge, meter: Meter, part: BudgetPart) -> None:
        most = Spending(part.reserve)
        self._judge, self._meter, self._tokens = judge, meter, part.tokens
        self._budgeted = BudgetedJudge(judge, meter, max_tokens=part.tokens, most=most)

    @property
    def fingerprint(self) -> str:
        """That of the judge."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            BudgetError: if there is no room for this judgement.
            JudgeError: if the judge failed.
            UsageError: if the server tells no token counts.
        """
        verdicts = await self._budgeted.judge(steps)
        if verdicts and all(verdict.reason.startswith(OVER_BUDGET) for verdict in verdicts):
            spent = f"budget.tokens {self._tokens} is reached ({self._meter.spent.tokens:,} spent)"
            raise BudgetError(f"{spent}; raise it and run the same command to go on")
        return verdicts


def limited(judge: Judge, meter: Meter, part: BudgetPart) -> Judge:
    """The judge, held to the budget if the recipe has one."""
    return judge if part.tokens is None else TokenLimit(judge, meter, part)
