"""The plan of a walk over recorded solutions: all that is known before any work, and what the folder says of it."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

from stepcredit.core.protocols import Judge, Splitter, Tokenizer
from stepcredit.recipes.recorded.input import RecordedInput
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.recipes.recorded.settings import RecordedRecipe, RecordedSettings, StepsPart, given
from stepcredit.recipes.recorded.walk import WalkParts, Watch
from stepcredit.report.page import package_version
from stepcredit.steps import splitter
from stepcredit.store.ledger import Ledger
from stepcredit.tasks.checking import MathChecker

_SAID = ("numpy", "tokenizers", "math-verify")


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

    def parts(self, checker: MathChecker, judge: Judge, ledger: Ledger, *, watch: Watch | None) -> WalkParts:
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
    """What every kept record depends on. Credit and the last stage are not among it: they may change in one folder."""
    settings = plan.settings
    return {
        "verb": plan.verb,
        "input": {"name": plan.input.file.name, "sha256": plan.input.sha256},
        "tokenizer": plan.tokenizer.fingerprint,
        "steps": str(plan.splitter),
        "checker": checker.fingerprint,
        "judge": {
            "model": settings.model or "",
            "name": settings.judge,
            "server": settings.server or "",
            "version": judge.fingerprint,
        },
        "versions": {"stepcredit": package_version(), **{name: _version(name) for name in _SAID}},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
