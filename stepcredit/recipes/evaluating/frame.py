"""What an evaluation of judges and one of recorded attempts share: manifest, open folder, clock, coverage, the end."""

import platform
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from stepcredit.recipes.blocking import Turns
from stepcredit.recipes.draining import Drain
from stepcredit.recipes.evaluating.comparing import VERB
from stepcredit.recipes.evaluating.walking import walk_items
from stepcredit.recipes.recorded.limits import Quarantine
from stepcredit.recipes.recorded.results import coverage_line
from stepcredit.recipes.recorded.walk import Placed, Walked, WalkParts
from stepcredit.recipes.report_run import save_report
from stepcredit.recipes.session import Session, session
from stepcredit.report.page import package_version
from stepcredit.report.progress import Progress
from stepcredit.report.views import ReportData
from stepcredit.store.run_folder import RunFolder


@final
@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation gave.

    Args:
        summary: as in `summary.json`.
        closing: the official figure in one sentence.
        folder: the run folder, with `report.html` and one line an item.
    """

    summary: dict[str, Any]
    closing: str
    folder: Path


def evaluation_manifest(given: Mapping[str, Any], judge: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What every kept result depends on; what people can read comes first.

    Args:
        given: what was evaluated: its name and digest.
        judge: who judges, with all settings.
        more: what else results depend on.
    """
    return {
        "verb": VERB,
        "input": dict(given),
        "judge": dict(judge),
        **more,
        "versions": {"stepcredit": package_version()},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


@final
@dataclass(frozen=True)
class Frame:
    """An evaluation's open folder, and who is told.

    Args:
        folder: open.
        note: of this session.
        screen: who is told.
        drain: once it is asked nothing is begun.
        turns: hears when the event loop waits.
        seconds: wall time of each part of this session, filled by `timed`.
    """

    folder: RunFolder
    note: Session
    screen: Progress
    drain: Drain
    turns: Turns
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def timed(self, part: str) -> Generator[None]:
        """Measure a part of the session."""
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began

    async def walk(
        self,
        parts: WalkParts,
        items: Sequence[Placed],
        *,
        quarantine: Quarantine,
        take: Callable[[int, Walked], None],
    ) -> None:
        """Walk all items, as `walk_items`."""
        self.turns.tell = self.folder.under_way.idle
        await walk_items(parts, items, quarantine=quarantine, take=take, drain=self.drain)

    def cover(self, coverage: Mapping[str, int], *, asked: int, say: bool) -> None:
        """Keep coverage for `status`.

        Args:
            coverage: items by what became of them, with `asked`: how many have a result.
            asked: items of the whole run.
            say: tell the screen too.
        """
        self.note.cover({**coverage, "asked": asked, "not yet": asked - coverage["asked"]})
        if say:
            self.screen.say(coverage_line(coverage, asked=asked))

    def facts(self, named: Mapping[str, object]) -> list[tuple[str, str]]:
        """How the run was made, as names and values; empty ones are left out.

        Args:
            named: the facts.
        """
        told = {name: "" if value is None else str(value) for name, value in named.items()}
        told["stepcredit"] = self.folder.manifest["versions"]["stepcredit"]
        return [(name, value) for name, value in told.items() if value]

    def save(self, report: ReportData, told: Mapping[str, Any]) -> None:
        """Write page and summary."""
        save_report(self.folder.path, report)
        self.folder.write_json("summary.json", dict(told))


@contextmanager
def open_frame(folder: RunFolder, screen: Progress, drain: Drain, turns: Turns) -> Generator[Frame]:
    """The frame of an evaluation for as long as its session runs; tells what the folder's opening had to say."""
    with folder, session(folder) as note:
        for line in folder.notes:
            screen.say(line)
        yield Frame(folder, note, screen, drain, turns)
