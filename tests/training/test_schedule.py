"""process_weight schedules: each kind by hand, and the adaptive one in and out of bounds."""

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.training.schedule import ProcessWeight, Signs, process_weight

GOOD = Signs(parse_rate=1.0, kl=0.01, accuracy=0.5)


def weights(schedule: ProcessWeight, rounds: int) -> list[float]:
    return [process_weight(schedule, i)[0] for i in range(rounds)]


def test_fixed_kinds() -> None:
    assert weights(ProcessWeight("process"), 3) == [1.0, 1.0, 1.0]
    assert weights(ProcessWeight("outcome"), 3) == [0.0, 0.0, 0.0]


def test_alternate_takes_turns() -> None:
    assert weights(ProcessWeight("alternate", process_rounds=2, outcome_rounds=1), 6) == [1, 1, 0, 1, 1, 0]


def test_anneal_reaches_zero_and_stays() -> None:
    assert weights(ProcessWeight("anneal", anneal_rounds=2), 4) == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("signs", "word"),
    [(Signs(0.5, 0.01, 0.5), "parse rate 0.500"), (Signs(1.0, 0.5, 0.5), "KL 0.5000"), (GOOD, "in bounds")],
)
def test_adaptive_names_its_reason(signs: Signs, word: str) -> None:
    weight, reason = process_weight(ProcessWeight("adaptive"), 1, history=[GOOD, signs])
    assert word in reason
    assert weight == (1.0 if signs is GOOD else 0.0)


def test_adaptive_switches_off_on_a_flat_curve_and_back_on_a_rise() -> None:
    schedule = ProcessWeight("adaptive", flat_rounds=2)
    flat = [Signs(1.0, 0.01, a) for a in (0.3, 0.5, 0.5, 0.5)]
    assert process_weight(schedule, 4, history=flat)[0] == 0.0
    assert process_weight(schedule, 5, history=[*flat, Signs(1.0, 0.01, 0.6)])[0] == 1.0


def test_bad_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ProcessWeight("alternate", process_rounds=0)
