"""Progress in a log: a line at the end of each piece, with counts, unknowns and cost."""

import pytest

from stepcredit.cli.screen import watched


def test_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with watched() as progress:
        progress.say("gate: passed")
        task = progress.start("judging", total=3, unit="rollouts")
        task.advance(2, unknown=1, cost=0.5)
        task.advance(1, note="almost")
        task.finish("done")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "gate: passed"
    assert last.startswith("judging: 3 rollouts in 0.")
    assert last.endswith("1 unknown, cost 0.5000, done")
