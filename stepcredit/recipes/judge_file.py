"""`stepcredit judge`: verdicts on every step of your own solutions; no tokenizer, and for markers no model."""

from pathlib import Path

from stepcredit.recipes.recorded import RecordedResult, run_recorded
from stepcredit.recipes.recorded.settings import FileJudge, RecordedSettings
from stepcredit.report.progress import Progress


def judge_file(
    file: Path,
    *,
    out: Path,
    judge: FileJudge = "markers",
    server: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    overrides: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> RecordedResult:
    """Check, cut and judge the solutions of a file, or go on where the folder stands.

    Args:
        file: as `run_recorded` takes it; a line that brings `steps` is cut as it says.
        out: run folder.
        judge: `markers` needs no model; `critic` asks the chat server for the first wrong step; `thinkprm` and
            `genprm` go on with token ids of such a checkpoint; `think-rm` and `spct` ask the chat server for one score
            of each whole solution, which `scores.jsonl` in the folder holds.
        server: address of an OpenAI-style server.
        model: name of the model there; `None` takes the only one.
        tokenizer: folder or hub id of the judge's model, for `thinkprm` and `genprm`.
        overrides: `section.key=value`, applied to `recorded.toml`.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a file, key or choice that cannot be used, or the folder of another run.
        MachineError: if there is no server, or the folder cannot be written.
        BudgetError: if a limit on calls or cost is reached.
        PartialError: if the judge itself failed on some solutions; the same call asks for these again.
    """
    settings = RecordedSettings(
        out, judge, until="judge", server=server, model=model, overrides=overrides, judge_tokenizer=tokenizer
    )
    return run_recorded(file, settings, verb="judge", progress=progress)
