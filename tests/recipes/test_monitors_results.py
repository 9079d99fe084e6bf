"""What the monitors fired, as the report and `summary.json` tell it, and the recipe's `[monitors]`."""

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.recipes.arms import ArmResult
from stepcredit.recipes.demo_settings import load_demo
from stepcredit.recipes.monitor_results import fired_monitors, monitor_fact, monitor_summary, monitor_tables
from stepcredit.training.history import RoundRow
from stepcredit.training.monitoring import Firing, RoundLength

CATCH = [Firing("catch_rate", index, 1024 * (index + 1), 0.76, 0.9, "outcome_only") for index in (1, 3)]


def result(*firings: Firing, last: tuple[float, float] = (0.8, 0.9), name: str = "hacked") -> ArmResult:
    measured = [(0.15, 0.77), (0.2, 0.7), (0.21, 0.58), (0.4, 0.7), (0.5, 0.6), last]
    rows = tuple(
        RoundRow(i - 1, 1024 * i, accuracy=accuracy, figures={"catch": catch})
        for i, (accuracy, catch) in enumerate(measured)
    )
    return ArmResult(name, 0, rows, (True,), (1.0,), {}, 0, 0, firings=firings, unknown_monitors=("score_mass",))


def test_the_table_tells_when_what_was_done_and_what_came_of_it() -> None:
    (table,) = monitor_tables(load_demo(), {"hacked": [result(*CATCH)]})
    (row,) = table.rows
    told = dict(zip(table.columns, row, strict=True))
    assert told["monitor"] == "catch_rate"
    assert told["first fired at"] == "2048 rollouts"
    assert told["action"] == "outcome_only"
    assert told["fired in rounds"] == "1, 3"
    assert [told[name].value for name in ("accuracy then", "accuracy at the end")] == [0.21, 0.8]  # type: ignore
    assert [told[name].value for name in ("catch then", "catch at the end")] == [0.58, 0.9]  # type: ignore
    assert told["recovered"] == "yes, quiet since round 4"
    assert "reward hacking" in table.note


@pytest.mark.parametrize(
    ("firings", "last", "recovered"),
    [
        ((*CATCH, Firing("catch_rate", 4, 5120, 0.5, 0.9, "outcome_only")), (0.8, 0.9), False),
        (CATCH, (0.1, 0.9), False),
        (CATCH, (0.8, 0.9), True),
    ],
)
def test_a_run_has_recovered_if_the_monitor_is_silent_and_accuracy_did_not_fall(firings, last, recovered) -> None:
    (entry,) = fired_monitors({"hacked": [result(*firings, last=last)]})
    assert entry.recovered is recovered


def test_firings_of_many_updates_are_one_entry_and_the_strongest_action_stands_first() -> None:
    updates = [Firing("clip_low", 0, 1024, 0.3, 0.2, "log", update=index) for index in range(5)]
    entries = fired_monitors({"hacked": [result(*updates, *CATCH)]})
    assert [entry.first.monitor for entry in entries] == ["catch_rate", "clip_low"]


def test_a_healthy_run_has_no_table_and_says_so() -> None:
    results = {"grpo": [result(name="grpo")]}
    assert monitor_tables(load_demo(), results) == ()
    assert "watched, none fired; unknown here: score_mass" in monitor_fact(results)
    assert monitor_summary(results)["fired"] == []
    assert monitor_summary({"hacked": [result(*CATCH)]})["fired"][0]["recovered"] is True


class TestTheRecipe:
    def test_bounds_actions_and_round_length_reach_the_settings(self) -> None:
        recipe = load_demo(
            overrides=("monitors.bounds.catch_rate=0.5", 'monitors.actions.length="stop"', "monitors.target_kl=0.01")
        )
        settings = recipe.monitors.settings()
        assert settings.bound("catch_rate") == 0.5
        assert settings.action("length") == "stop"
        assert settings.round_length == RoundLength(0.01, 32, 512)

    def test_by_default_they_act_and_rounds_keep_their_length(self) -> None:
        settings = load_demo().monitors.settings()
        assert settings.act
        assert settings.action("catch_rate") == "outcome_only"
        assert settings.round_length is None

    def test_an_unknown_monitor_names_the_nearest(self) -> None:
        with pytest.raises(UsageError, match="catch: no such monitor; the nearest is catch_rate"):
            load_demo(overrides=("monitors.bounds.catch=0.5",))

    def test_an_unknown_key_names_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"unknown key monitors.quiet; did you mean monitors.quiet_rounds"):
            load_demo(overrides=("monitors.quiet=1",))
