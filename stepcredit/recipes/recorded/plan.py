"""The plan of a walk over recorded solutions: all that is known before any work, and what the folder says of it."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

from stepcredit.core.protocols import Judge, Splitter, Tokenizer
from stepcredit.recipes.recorded.input import RecordedInput
from stepcredit.recipes.recorded.judges import judge_settings
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.recipes.recorded.settings import ASKS_MODEL, RecordedRecipe, RecordedSettings, StepsPart, given
from stepcredit.recipes.recorded.walk import Propose, WalkParts, Watch
from stepcredit.recipes.recorded.wrapping import calibration_fact
from stepcredit.report.page import package_version
from stepcredit.steps import splitter
from stepcredit.store.ledger import Ledger
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.math_pool import RETRY_TIMEOUT_S

JUDGE_VERSION = "judge.version"
"""Key of the manifest that is known once the judge's server has told its model."""

SAID = {
    "input.sha256": "the file has changed since this run was made",
    "tokenizer": "this run was made with another tokenizer",
    JUDGE_VERSION: "this run was made with another model, or with another version of the judge",
}
"""What is said of keys of the manifest that hold digests."""

_PACKAGES = ("numpy", "tokenizers", "math-verify")


@final
@dataclass(frozen=True)
class Plan:
    """A walk that was checked as far as it can be before any work.

    Args:
        input: the file, read through once.
        settings: what was asked for.
        recipe: `recorded.toml` with its overrides.
        verb: the command, for the manifest.
        tokenizer: of the texts.
        splitter: of the completions.
        rule: settings of the credit rule, `None` if the walk stops before.
    """

    input: RecordedInput
    settings: RecordedSettings
    recipe: RecordedRecipe
    verb: str
    tokenizer: Tokenizer
    splitter: Splitter
    rule: object

    @property
    def asks_for_model(self) -> bool:
        """True if only the server can tell which model judges."""
        return self.settings.judge in ASKS_MODEL and not self.settings.model

    def parts(
        self,
        checker: MathChecker,
        judge: Judge,
        ledger: Ledger,
        *,
        watch: Watch | None,
        propose: Propose | None = None,
    ) -> WalkParts:
        """What the walk is made of."""
        settings = self.settings
        return WalkParts(
            RolloutMaker(self.tokenizer, self.input.file),
            checker,
            self.splitter if settings.reaches("split") else None,
            judge if settings.reaches("judge") else None,
            ledger,
            str(self.input.file),
            watch,
            propose,
        )


def splitter_of(part: StepsPart) -> Splitter:
    """The splitter of `[steps]`.

    Raises:
        UsageError: for an unknown one, or a setting that it does not have.
    """
    return splitter(part.splitter, **{name: value for name, value in given(part).items() if name != "splitter"})


def facts_of(plan: Plan, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """How the run was walked, as names and values."""
    settings = plan.settings
    named = {
        "file": plan.input.file.name,
        "until": settings.until,
        "judge": settings.judge if settings.reaches("judge") else "",
        "model": settings.model or "",
        "mode": manifest["judge"].get("mode", ""),
        "sandbox": manifest["judge"].get("sandbox", ""),
        "calibration": manifest["judge"].get("calibration", ""),
        "checker": manifest["checker"],
        "splitter": str(plan.splitter),
        "tokenizer": "bytes (none was named)" if settings.tokenizer is None else settings.tokenizer.name,
        "group_by": settings.group_by,
        "credit": settings.credit if plan.rule is not None else "",
        "credit_settings": str(plan.rule) if plan.rule is not None else "",
        "keep": plan.recipe.credit.keep if plan.rule is not None else "",
        "stepcredit": manifest["versions"]["stepcredit"],
    }
    return [(name, value) for name, value in named.items() if value]


def manifest_of(plan: Plan, *, checker: MathChecker, judge: Judge) -> dict[str, Any]:
    """What every kept record depends on. Credit and the last stage are not among it: they may change in one folder.

    What people can read comes first, so that it is named first where another command differs from the run's.
    """
    settings, retry_timeout_s = plan.settings, plan.recipe.checker.retry_timeout_s
    return {
        "verb": plan.verb,
        "input": {"name": plan.input.file.name, "sha256": plan.input.sha256},
        "judge": {
            "name": settings.judge,
            "model": settings.model or "",
            "server": settings.server or "",
            **judge_settings(settings.judge, plan.recipe),
            **calibration_fact(plan.recipe.calibration),
            "version": None if plan.asks_for_model else judge.fingerprint,
        },
        "checker": checker.fingerprint,
        "checker_retry_timeout_s": RETRY_TIMEOUT_S if retry_timeout_s is None else retry_timeout_s,
        "steps": str(plan.splitter),
        "tokenizer": plan.tokenizer.fingerprint,
        "versions": {"stepcredit": package_version(), **{name: _version(name) for name in _PACKAGES}},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
