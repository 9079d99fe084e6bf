"""process_weight schedules: each kind by hand, and the adaptive one in and out of bounds."""

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.training.schedule import ProcessWeight, Signs, process_weight

NAN = float("nan")
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
    [
        (Signs(0.5, 0.01, 0.5), "parse rate 0.500"),
        (Signs(1.0, 0.5, 0.5), "KL 0.5000"),
        (Signs(None, 0.01, 0.5), "parse rate unknown"),
        (Signs(1.0, None, 0.5), "KL unknown"),
        (Signs(1.0, NAN, 0.5), "KL is not finite"),
        (Signs(NAN, 0.01, 0.5), "parse rate nan"),
        (GOOD, "in bounds"),
    ],
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


def test_a_flat_curve_is_counted_in_rounds_not_in_measurements():
    """Measured every fourth round: two rounds of standstill are two rounds, not two measurements."""
    schedule = ProcessWeight("adaptive", flat_rounds=2)
    curve = [None, None, None, 0.5, None, None, None, 0.5]
    history = [Signs(1.0, 0.01, accuracy) for accuracy in curve]
    assert process_weight(schedule, 4, history=history[:4])[0] == 1.0
    weight, reason = process_weight(schedule, 8, history=history)
    assert (weight, reason) == (0.0, "adaptive: accuracy rose by 0.0000 in 2 rounds")
    longer = [*history, *[Signs(1.0, 0.01, accuracy) for accuracy in (None, None)]]
    assert process_weight(schedule, 10, history=longer)[0] == 0.0
    assert process_weight(schedule, 12, history=[*longer, Signs(1.0, 0.01, None), Signs(1.0, 0.01, 0.6)])[0] == 1.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "annael"}, "'annael' is unknown; did you mean 'anneal'"),
        ({"kind": "adaptive", "max_kl": NAN}, "max_kl must be a finite number"),
        ({"kind": "adaptive", "min_parse_rate": 1.5}, r"min_parse_rate must be in \[0, 1\]"),
        ({"kind": "adaptive", "flat_gain": -0.1}, "flat_gain must be a finite number"),
    ],
)
def test_an_unknown_kind_and_a_bound_out_of_range_are_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        ProcessWeight(**settings)
