"""The crew: results, progress, stopping softly and at once, workers that die, workers that are left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_groups import group_lives

from stepcredit.core.errors import BudgetError, DrainedError, MachineError
from stepcredit.recipes.crew import Crew, Heard, Teller, asked_to_stop
from stepcredit.recipes.draining import Drain
from stepcredit.report.progress import SilentTask

WITHIN_S = 30.0


class Told:
    """A progress that keeps what was told."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def say(self, line: str) -> None: ...

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> SilentTask:
        self.started.append(name)
        return SilentTask()


def double(number: int, teller: Teller) -> int:
    teller.put(Heard(f"doubling {number}", 1, last=True))
    return 2 * number


def until_stopped(mark: Path) -> str:
    mark.touch()
    while not asked_to_stop():
        time.sleep(0.01)
    raise BudgetError("left at a safe point")


def never_ending(mark: Path) -> None:
    mark.touch()
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(path: Path) -> None:
    end = time.monotonic() + WITHIN_S
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def workers() -> Iterator[None]:
    """No test leaves a worker."""
    yield
    import multiprocessing

    assert multiprocessing.active_children() == []


def test_results_and_progress(workers: None) -> None:
    told = Told()
    with Crew(1, told) as crew:
        jobs = [crew.submit(double, number, crew.teller) for number in range(3)]
        assert [crew.result(job) for job in jobs] == [0, 2, 4]
    assert told.started == ["doubling 0", "doubling 1", "doubling 2"]


def test_a_drain_lets_jobs_end_at_a_safe_point(workers: None, tmp_path: Path) -> None:
    drain = Drain()
    with pytest.raises(DrainedError, match="with everything saved"), Crew(1, Told(), drain) as crew:  # noqa: PT012
        job = crew.submit(until_stopped, tmp_path / "began")
        wait_until(tmp_path / "began")
        drain.ask()
        crew.result(job)


def test_a_job_that_does_not_end_in_time_is_ended(workers: None, tmp_path: Path) -> None:
    drain = Drain(grace_s=0.3)
    with pytest.raises(DrainedError, match="the rest will be done again"), Crew(1, Told(), drain) as crew:  # noqa: PT012
        job = crew.submit(never_ending, tmp_path / "began")
        wait_until(tmp_path / "began")
        drain.ask()
        crew.result(job)


def test_a_second_interrupt_ends_all_at_once(workers: None, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Crew(1, Told()) as crew:  # noqa: PT012
        crew.submit(never_ending, tmp_path / "began")
        wait_until(tmp_path / "began")
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 5


def test_a_killed_worker_is_named(workers: None) -> None:
    with pytest.raises(MachineError, match="a worker process was killed; give it more memory"), Crew(1, Told()) as crew:
        crew.result(crew.submit(die))


PARENT = """
import sys
from pathlib import Path
from test_crew import Told, never_ending
from stepcredit.recipes.crew import Crew
if __name__ == "__main__":
    with Crew(1, Told()) as crew:
        crew.submit(never_ending, Path(sys.argv[1]))
        print("running", flush=True)
        import time; time.sleep(600)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script, began = tmp_path / "parent.py", tmp_path / "began"
    script.write_text(PARENT)
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here.parents[2]}"}
    parent = subprocess.Popen([sys.executable, str(script), str(began)], env=environment, start_new_session=True)
    try:
        wait_until(began)
        parent.kill()
        parent.wait()
        end = time.monotonic() + WITHIN_S
        while group_lives(parent.pid):
            assert time.monotonic() < end, "a worker was left behind"
            time.sleep(0.05)
    finally:
        if group_lives(parent.pid):
            os.killpg(parent.pid, signal.SIGKILL)
