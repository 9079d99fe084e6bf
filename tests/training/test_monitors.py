"""Each monitor: a forced run fires it within 2 rounds, a healthy one does not, and without inputs it is unknown."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_run import GROUP, LONG, RIGHT, Script, ScriptedRun, metrics, settings_of, walk

from stepcredit.core.errors import PartialError, UsageError
from stepcredit.core.records import Verdict
from stepcredit.training import monitoring
from stepcredit.training.monitor_facts import RoundFacts, loops
from stepcredit.training.monitoring import MonitorSettings, ask_round, strongest
from stepcredit.training.monitors import MONITORS, EachRound

NAN = float("nan")
WRONG = RIGHT.replace("right", "wrong")


def later(value, otherwise):
    """A script's entry that turns to `value` in round 1."""
    return lambda r, *_: value if r >= 1 else otherwise


def update(**changes):
    return lambda r, k: changes if k > 0 else {}


def every_second_right(text):
    return lambda r, place: (text if r >= 1 else RIGHT) if place % GROUP == 0 else WRONG


def unread(r, rollout):
    return Verdict(reason="P4 unreadable after 3 replies: not JSON") if rollout.sample == 1 and r else Verdict(0.7)


def lone_groups(r, place):
    """In round 1 more rollouts are right than in round 0, in fewer groups."""
    if r == 0:
        return RIGHT if place % GROUP == 0 else WRONG
    return RIGHT if place < 40 else WRONG


def measured(accuracy, **figures):
    return lambda r: (accuracy, {**figures, "catch_of": 500.0}) if r >= 0 else (0.5, {"catch": 0.8, "catch_of": 500.0})


FORCED = {
    "kl_k1": Script(update=update(kl_k1=0.2)),
    "kl_k3": Script(update=update(kl_k3=0.2)),
    "log_ratio_p99": Script(update=update(log_ratio_p99=2.5)),
    "effective_sample": Script(update=update(ess=0.01)),
    "clip_low": Script(update=update(clip_low=0.3)),
    "clip_high": Script(update=update(clip_high=0.3)),
    "entropy_collapse": Script(update=update(entropy=0.001)),
    "entropy_explosion": Script(update=update(entropy=4.0)),
    "skipped_updates": Script(update=update(loss=NAN, skipped="loss is nan")),
    "broken_logprobs": Script(logprob=lambda r, trainer: NAN if r and trainer else -0.5),
    "zero_probability": Script(logprob=lambda r, trainer: -float("inf") if r and not trainer else -0.5),
    "sampler_gap": Script(logprob=lambda r, trainer: -0.9 if r and trainer else -0.5),
    "kl_to_outcome": Script(reference=later((4.0, "reference-1"), (-0.6, "reference-1"))),
    "reference_changed": Script(reference=later((-0.6, "reference-2"), (-0.6, "reference-1"))),
    "parse_rate": Script(verdict=unread),
    "label_agreement": Script(second=lambda r, rollout: Verdict(0.7 if int(rollout.id[4]) % 2 else 0.3)),
    "changed_credit": Script(second=lambda r, rollout: Verdict(0.2)),
    "score_mass": Script(verdict=lambda r, rollout: Verdict(0.999 if rollout.sample else 0.001)),
    "judge_loops": Script(replies=lambda r: ["and then again " * 30] * (40 * r)),
    "silent_right": Script(text=every_second_right(RIGHT.replace("wait", "work"))),
    "reflection_rate": Script(text=lambda r, place: (RIGHT if place % 2 == 0 else WRONG).replace("wait", "work")
                              if r else (RIGHT if place % 2 == 0 else WRONG)),
    "catch_rate": Script(measured=measured(0.52, catch=0.5)),
    "length": Script(text=every_second_right("work " * 25 + "; wait work ; right <eos>")),
    "truncation": Script(text=lambda r, place: RIGHT if place % GROUP == 0 else LONG if r else WRONG),
    "answer_consistency": Script(figures=later({"answer_consistency": 0.5}, {"answer_consistency": 0.9})),
    "step_length": Script(text=lambda r, place: "; work ; work ; wait ; right <eos>"
                          if r and place % GROUP == 0 else "; work ; wait ; wrong <eos>"
                          if r else "work work work work ; wait work work work ; "
                          + ("right" if place % GROUP == 0 else "wrong") + " <eos>"),
    "pass_divergence": Script(text=lone_groups),
}  # fmt: skip
"""Monitor -> a run that forces it."""

STOPS = {name for name, monitor in MONITORS.items() if monitor.action == "stop"}


def test_every_monitor_has_a_run_that_forces_it() -> None:
    assert set(FORCED) == set(MONITORS)


@pytest.mark.parametrize("name", sorted(MONITORS))
def test_a_forced_run_fires_within_two_rounds_and_is_recorded(name: str, tmp_path: Path) -> None:
    run = ScriptedRun(FORCED[name])
    if name in STOPS:
        with pytest.raises(PartialError, match=f"stopped by monitor .*{name}"):
            walk(run, tmp_path)
    else:
        walk(run, tmp_path)
    fired = [row for row in metrics(tmp_path, "monitor") if row["monitor"] == name]
    assert fired
    assert fired[0]["round"] <= 1
    assert fired[0]["action"] == MONITORS[name].action
    assert MONITORS[name].beyond(fired[0]["value"], fired[0]["bound"])
    assert any(name in row["fired"] for row in metrics(tmp_path, "round"))


def test_a_healthy_run_knows_every_monitor_and_fires_none(tmp_path: Path) -> None:
    rows = walk(ScriptedRun(Script()), tmp_path, settings_of(rounds=3))
    assert [row.fired for row in rows] == [[]] * 4
    assert metrics(tmp_path, "monitor") == []
    told = metrics(tmp_path, "monitors")
    assert [row["unknown"] for row in told[1:]] == [[], []]
    rounds = {name for name, monitor in MONITORS.items() if isinstance(monitor.asked, EachRound)}
    assert set(told[-1]["values"]) == rounds


def test_without_inputs_a_monitor_is_unknown_and_has_no_number(tmp_path: Path) -> None:
    rows = walk(ScriptedRun(Script(known=False)), tmp_path)
    assert [row.fired for row in rows] == [[], [], []]
    last = metrics(tmp_path, "monitors")[-1]
    absent = {
        "parse_rate", "label_agreement", "changed_credit", "score_mass", "judge_loops", "silent_right",
        "reflection_rate", "catch_rate", "answer_consistency", "kl_to_outcome", "reference_changed",
    }  # fmt: skip
    assert set(last["unknown"]) == absent
    assert absent.isdisjoint(last["values"])


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(shuffle: random.Random) -> None:
    rounds = [
        RoundFacts(-1, 0, accuracy=0.5, held_out={"catch": 0.8}),
        RoundFacts(0, 64, right=0.5, pass_at_k=0.9, accuracy=0.5, tokens=10.0, reflections=60.0, parse={"judge": 1.0}),
        RoundFacts(
            1, 128, right=0.55, pass_at_k=0.6, accuracy=0.5, tokens=30.0, reflections=6.0, parse={"P4": 0.1},
            broken=3.0, held_out={"catch": 0.3},
        ),
    ]  # fmt: skip
    straight = ask_round(MonitorSettings(), rounds)
    names = list(MONITORS)
    shuffle.shuffle(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitoring, "MONITORS", {name: MONITORS[name] for name in names})
        again = ask_round(MonitorSettings(), rounds)
    assert again == straight
    assert strongest(again.firings) == "stop"
    fired = {"parse_rate", "catch_rate", "reflection_rate", "length", "pass_divergence", "broken_logprobs"}
    assert {firing.monitor for firing in straight.firings} == fired


class TestSettings:
    def test_unknown_names_are_refused_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match="catch_rat: no such monitor; the nearest is catch_rate"):
            MonitorSettings(bounds={"catch_rat": 0.5})
        with pytest.raises(UsageError, match="nearest is kl_k3"):
            MonitorSettings(actions={"kl_3": "stop"})

    def test_actions_that_make_no_sense_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"catch_rate: .* there is none to end"):
            MonitorSettings(actions={"catch_rate": "end_round"})
        with pytest.raises(UsageError, match="unknown action"):
            MonitorSettings(actions={"catch_rate": "explode"})  # type: ignore[dict-item]
        with pytest.raises(UsageError, match="quiet_rounds"):
            MonitorSettings(quiet_rounds=0)

    def test_bounds_and_actions_replace_the_tables(self) -> None:
        rounds = [RoundFacts(0, 64, tokens=10.0), RoundFacts(1, 128, tokens=13.0)]
        assert ask_round(MonitorSettings(), rounds).firings == ()
        (firing,) = ask_round(MonitorSettings(bounds={"length": 1.2}, actions={"length": "stop"}), rounds).firings
        assert (firing.bound, firing.action) == (1.2, "stop")
        (firing,) = ask_round(MonitorSettings(False, {"length": 1.2}, {"length": "stop"}), rounds).firings
        assert firing.action == "log"


class TestTheTable:
    def test_every_row_says_what_it_means_and_where_it_comes_from(self) -> None:
        assert all(monitor.meaning and monitor.source for monitor in MONITORS.values())

    def test_only_updates_end_rounds(self) -> None:
        assert all(
            monitor.action != "end_round" for monitor in MONITORS.values() if isinstance(monitor.asked, EachRound)
        )


class TestFormulas:
    """Hand-worked numbers beside the doctests."""

    def test_the_exhibit_as_it_was_measured(self) -> None:
        """Rounds -1 to 3 of the hacked arm without monitors: the catch rate falls while accuracy stays flat."""
        curve = [(0.148, 0.771), (0.203, 0.698), (0.215, 0.589), (0.219, 0.482), (0.254, 0.315)]
        facts = [RoundFacts(i - 1, 1024 * i, accuracy=a, held_out={"catch": c}) for i, (a, c) in enumerate(curve)]
        values = [ask_round(MonitorSettings(), facts[: n + 1]).values["catch_rate"] for n in range(1, 5)]
        assert values == pytest.approx([0.905, 0.764, 0.625, 0.414], abs=1e-3)

    def test_a_relapse_is_held_against_the_recovery_and_not_excused_by_the_start(self) -> None:
        curve = [(0.15, 0.77), (0.46, 0.76), (0.5, 0.45)]
        facts = [RoundFacts(i - 1, 64, accuracy=a, held_out={"catch": c}) for i, (a, c) in enumerate(curve)]
        assert ask_round(MonitorSettings(), facts).values["catch_rate"] == pytest.approx(0.45 / 0.76)

    def test_a_catch_rate_of_few_errors_is_unknown(self) -> None:
        facts = [
            RoundFacts(-1, 0, accuracy=0.9, held_out={"catch": 0.9, "catch_of": 100}),
            RoundFacts(0, 64, accuracy=0.99, held_out={"catch": 0.2, "catch_of": 5}),
        ]
        assert ask_round(MonitorSettings(), facts).values["catch_rate"] is None

    def test_facts_are_never_nan(self) -> None:
        assert RoundFacts(0, 64, tokens=NAN, own={"catch": NAN, "other": 1.0}).own == {"other": 1.0}
        assert RoundFacts(0, 64, sampler_gap=float("inf")).sampler_gap is None

    @pytest.mark.parametrize("text", ["", "x", "12 + 12 = 24. " * 3, '{"step": 1}, {"step": 2}, {"step": 3}' * 2])
    def test_ordinary_replies_do_not_loop(self, text: str) -> None:
        assert not loops(text)

    def test_an_overlong_reply_counts_as_a_loop(self) -> None:
        assert loops("".join(chr(97 + i * i % 26) for i in range(30_000)))
