"""What a firing does to the run, and that a run which is cut and resumed decides as an undisturbed one."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scripted_run import GROUP, PROBLEMS, Script, ScriptedRun, metrics, settings_of, walk

from stepcredit.core.errors import PartialError
from stepcredit.core.records import Verdict
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.monitoring import MonitorSettings, RoundLength
from stepcredit.training.rounds import Watcher, recorded_firings, unknown_monitors
from stepcredit.training.schedule import ProcessWeight

NAN = float("nan")
UPDATES = 4
"""Updates of a round: 64 rollouts, 16 an update."""


def caught(*rates):
    """Held-out catch rates, from before the training on, at flat accuracy."""
    return lambda r: (0.5, {"catch": rates[min(r + 1, len(rates) - 1)], "catch_of": 500.0})


class TestEndRound:
    def test_the_rest_of_the_round_is_left_out_and_the_run_goes_on(self, tmp_path: Path) -> None:
        script = Script(update=lambda r, k: {"kl_k3": 0.3} if r == 0 and k in (1, 2) else {})
        rows = walk(ScriptedRun(script), tmp_path)
        assert [row.updates for row in rows] == [0, 3, UPDATES]
        assert rows[1].fired == ["kl_k3"]

    def test_one_update_alone_ends_no_round(self, tmp_path: Path) -> None:
        figures = {"kl_k1": 0.3, "kl_k3": 5.0, "log_ratio_p99": 3.0, "ess": 0.01}
        script = Script(update=lambda r, k: figures if k % 2 else {})
        rows = walk(ScriptedRun(script), tmp_path)
        assert [row.updates for row in rows] == [0, UPDATES, UPDATES]
        assert [row.fired for row in rows] == [[], [], []]

    def test_a_run_that_only_records_takes_all_updates(self, tmp_path: Path) -> None:
        script = Script(update=lambda r, k: {"kl_k3": 0.3} if k > 0 else {})
        rows = walk(ScriptedRun(script), tmp_path, settings_of(MonitorSettings(act=False)))
        assert [row.updates for row in rows] == [0, UPDATES, UPDATES]
        assert rows[1].fired == ["kl_k3"]
        assert metrics(tmp_path, "monitor")[0]["action"] == "log"


class TestOutcomeOnly:
    def test_process_credit_is_off_while_it_fires_and_until_it_was_quiet(self, tmp_path: Path) -> None:
        run = ScriptedRun(Script(measured=caught(0.8, 0.8, 0.4, 0.4, 0.8, 0.8, 0.8, 0.8)))
        rows = walk(run, tmp_path, settings_of(MonitorSettings(quiet_rounds=2), rounds=7))
        assert ["catch_rate" in row.fired for row in rows[1:]] == [False, True, True, False, False, False, False]
        assert run.weights == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
        assert [row.process_weight for row in rows[1:]] == run.weights
        assert rows[3].process_weight_reason == (
            "monitor: catch_rate 0.5 (bound 0.9) in round 1; the schedule said process"
        )
        assert rows[6].process_weight_reason == "process"

    def test_an_unreadable_judge_is_not_paid(self, tmp_path: Path) -> None:
        run = ScriptedRun(Script(verdict=lambda r, _rollout: Verdict(0.5) if r else Verdict(reason="no idea")))
        rows = walk(run, tmp_path, settings_of(MonitorSettings(quiet_rounds=1), rounds=3))
        assert run.weights == [1.0, 0.0, 1.0]
        (first,) = [f for f in firings(tmp_path) if f.monitor == "parse_rate"]
        assert (first.value, first.of, first.round) == (0.0, "judge", 0)
        assert "parse_rate of judge 0" in rows[2].process_weight_reason


class TestAdaptive:
    """The schedule's signs are the round's own, and what is not known is no number."""

    def weights(self, path: Path, script: Script, *, cut: bool = False) -> list[float | None]:
        schedule = ProcessWeight("adaptive")
        plain = replace(settings_of(MonitorSettings(act=False), rounds=3), process_weight=schedule)
        if cut:
            walk(ScriptedRun(script), path, replace(plain, rounds=1))
        return [row.process_weight for row in walk(ScriptedRun(script), path, plain)[1:]]

    def test_the_largest_kl_of_the_round_counts_not_the_last(self, tmp_path: Path) -> None:
        script = Script(update=lambda r, k: {"kl_k3": 0.3} if r == 0 and k == 1 else {})
        assert self.weights(tmp_path, script) == [1.0, 0.0, 1.0]
        rows = metrics(tmp_path, "round")
        assert [row["largest_kl"] for row in rows] == [None, 0.3, 0.002, 0.002]
        assert rows[1]["kl"] == 0.002

    @pytest.mark.parametrize("cut", [False, True])
    def test_a_kl_that_is_not_a_number_is_out_of_bounds_before_and_after_a_resume(
        self, cut: bool, tmp_path: Path
    ) -> None:
        script = Script(update=lambda r, k: {"kl_k3": NAN} if r == 0 and k == 1 else {})
        assert self.weights(tmp_path, script, cut=cut) == [1.0, 0.0, 1.0]
        assert metrics(tmp_path, "round")[2]["process_weight_reason"] == "adaptive: KL is not finite"


class TestStop:
    def test_three_updates_in_a_row_that_are_not_finite_stop_and_keep_the_batch(self, tmp_path: Path) -> None:
        script = Script(update=lambda r, k: {"loss": NAN, "skipped": "loss is nan"} if r == 1 else {})
        with pytest.raises(PartialError, match=r"skipped_updates 3 .*bad_batch/6; the same command goes on") as caught_:
            walk(ScriptedRun(script), tmp_path, settings_of(rounds=4))
        assert caught_.value.exit_code == 5
        with RunFolder.create_or_open(tmp_path, {"test": "monitors"}) as folder:
            batch = folder.read_shard("bad_batch", "6")
            whole = folder.read_shard("columns", "1")
            assert folder.has_checkpoint("learner-0002.bin")
        assert len(batch["rollout"]) == 16
        assert set(batch["rollout"]) < set(whole["rollout"])
        assert len(batch["ids"]) == batch["starts"][-1]
        rows = walk(ScriptedRun(Script()), tmp_path, settings_of(rounds=4))
        assert [row.index for row in rows] == [-1, 0, 1, 2, 3]
        assert rows[2].updates == 3

    def test_two_do_not(self, tmp_path: Path) -> None:
        script = Script(update=lambda _r, k: {"loss": NAN, "skipped": "loss is nan"} if k in (1, 2) else {})
        assert [row.fired for row in walk(ScriptedRun(script), tmp_path)] == [[], [], []]

    def test_the_row_of_skipped_updates_goes_on_over_rounds_and_sessions(self, tmp_path: Path) -> None:
        def script(r, k):
            return {"loss": NAN, "skipped": "loss is nan"} if (r, k) in ((0, 2), (0, 3), (1, 0)) else {}

        walk(ScriptedRun(Script(update=script)), tmp_path, settings_of(rounds=1))
        with pytest.raises(PartialError, match="bad_batch/4"):
            walk(ScriptedRun(Script(update=script)), tmp_path, settings_of(rounds=2))

    def test_an_empty_batch_is_not_one(self, tmp_path: Path) -> None:
        script = Script(update=lambda _r, _k: {"loss": NAN, "skipped": "no trained tokens", "tokens": 0})
        assert [row.fired for row in walk(ScriptedRun(script), tmp_path)] == [[], [], []]

    def test_nan_logprobs_of_the_trainer_train_nothing(self, tmp_path: Path) -> None:
        run = ScriptedRun(Script(logprob=lambda r, trainer: NAN if trainer and r else -0.5))
        with pytest.raises(PartialError, match=r"broken_logprobs 5\d\d .*shard columns/1"):
            walk(run, tmp_path)
        assert run.done == UPDATES


class TestResume:
    """Cut after any update, between stages or between rounds: the same decisions, the same rows."""

    SCRIPT = Script(
        measured=caught(0.8, 0.8, 0.4, 0.75, 0.8, 0.8),
        update=lambda r, k: {"kl_k3": 0.3} if (r, k) in ((2, 0), (2, 1)) else {"entropy": 1.0 - 0.1 * r},
    )
    SETTINGS = settings_of(MonitorSettings(quiet_rounds=1, rejudge_share=0.2), rounds=5)

    @staticmethod
    def told(path: Path, rows) -> tuple:
        plain = [{**asdict(row), "seconds": None} for row in rows]
        fired = [f.as_payload() for f in firings(path)]
        return plain, fired, metrics(path, "monitors"), metrics(path, "monitor")

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple:
        path = tmp_path_factory.mktemp("whole")
        rows = walk(ScriptedRun(cls.SCRIPT), path, cls.SETTINGS)
        assert [row.process_weight for row in rows] == [None, 1.0, 1.0, 0.0, 1.0, 1.0]
        assert rows[3].fired == ["kl_k3"]
        return cls.told(path, rows)

    @pytest.mark.parametrize("cut", range(1, 18, 2))
    def test_killed_in_training(self, cut: int, whole: tuple, tmp_path: Path) -> None:
        class Killed(Exception):  # noqa: N818 -- stands for a kill
            pass

        seen = 0

        def kill(_update: object) -> None:
            nonlocal seen
            seen += 1
            if seen == cut:
                raise Killed

        with pytest.raises(Killed):
            walk(ScriptedRun(self.SCRIPT), tmp_path, self.SETTINGS, watcher=Watcher(on_update=kill))
        rows = walk(ScriptedRun(self.SCRIPT), tmp_path, self.SETTINGS)
        assert self.told(tmp_path, rows) == whole

    @pytest.mark.parametrize("asked", [1, 2, 3, 4, 5, 8, 9, 11, 16, 20, 24])
    def test_stopped_by_the_watcher(self, asked: int, whole: tuple, tmp_path: Path) -> None:
        seen = 0

        def stop() -> bool:
            nonlocal seen
            seen += 1
            return seen >= asked

        first = walk(ScriptedRun(self.SCRIPT), tmp_path, self.SETTINGS, watcher=Watcher(stop=stop))
        assert len(first) < 6
        rows = walk(ScriptedRun(self.SCRIPT), tmp_path, self.SETTINGS)
        assert self.told(tmp_path, rows) == whole


class TestWatcherStop:
    def test_rollouts_and_verdicts_stay_and_the_learner_goes_back_to_the_last_checkpoint(self, tmp_path: Path) -> None:
        run = ScriptedRun(Script())
        stop = Watcher(stop=lambda: run.done == UPDATES + 2)
        rows = walk(run, tmp_path, settings_of(rounds=3), watcher=stop)
        assert [row.index for row in rows] == [-1, 0]
        assert run.done == UPDATES
        with RunFolder.create_or_open(tmp_path, {"test": "monitors"}) as folder:
            assert folder.ledger.stages()["rollout"] == 2 * PROBLEMS * GROUP
            assert folder.ledger.stages()["judgement"] == 2 * PROBLEMS * GROUP

    def test_a_round_whose_updates_are_all_done_is_recorded(self, tmp_path: Path) -> None:
        run = ScriptedRun(Script())
        rows = walk(run, tmp_path, settings_of(rounds=3), watcher=Watcher(stop=lambda: run.done == UPDATES))
        assert [row.index for row in rows] == [-1, 0]
        assert rows[-1].accuracy == 0.5
        assert run.done == UPDATES


class TestRoundLength:
    def test_rounds_shrink_with_the_drift_and_the_rollouts_are_counted(self, tmp_path: Path) -> None:
        length = RoundLength(target=0.01, shortest=4, longest=64)
        script = Script(update=lambda r, _k: {"kl_k3": 0.04 if r == 0 else 0.01})
        rows = walk(ScriptedRun(script), tmp_path, settings_of(MonitorSettings(round_length=length), rounds=3))
        assert [row.problems for row in rows] == [None, 32, 16, 16]
        assert [row.rollouts for row in rows] == [0, 64, 96, 128]

    def test_it_is_off_by_default(self, tmp_path: Path) -> None:
        rows = walk(ScriptedRun(Script(update=lambda _r, _k: {"kl_k3": 0.04})), tmp_path)
        assert [row.problems for row in rows] == [None, 32, 32]


class TestSecondReading:
    def test_it_asks_a_share_again_under_a_stage_of_its_own_and_changes_no_credit(self, tmp_path: Path) -> None:
        noisy = Script(second=lambda _r, rollout: Verdict(0.1))
        rows = walk(ScriptedRun(noisy), tmp_path / "noisy", settings_of(rounds=1))
        plain = walk(
            ScriptedRun(Script()), tmp_path / "plain", settings_of(MonitorSettings(rejudge_share=0.0), rounds=1)
        )
        with RunFolder.create_or_open(tmp_path / "noisy", {"test": "monitors"}) as folder:
            assert folder.ledger.stages()["rejudgement"] == PROBLEMS * GROUP // 2
            noisy_columns = folder.read_shard("columns", "0")
        with RunFolder.create_or_open(tmp_path / "plain", {"test": "monitors"}) as folder:
            assert "rejudgement" not in folder.ledger.stages()
            plain_columns = folder.read_shard("columns", "0")
        assert "changed_credit" in rows[1].fired
        assert plain[1].fired == []
        for name, column in plain_columns.items():
            np.testing.assert_array_equal(noisy_columns[name], column)

    def test_a_deterministic_judge_agrees_with_itself(self, tmp_path: Path) -> None:
        walk(ScriptedRun(Script()), tmp_path)
        values = metrics(tmp_path, "monitors")[-1]["values"]
        assert (values["label_agreement"], values["changed_credit"]) == (1.0, 0.0)


def test_what_was_unknown_throughout_is_named(tmp_path: Path) -> None:
    walk(ScriptedRun(Script(known=False)), tmp_path)
    with RunFolder.create_or_open(tmp_path, {"test": "monitors"}) as folder:
        assert {"catch_rate", "parse_rate"} <= set(unknown_monitors(folder))
        assert "length" not in unknown_monitors(folder)


def firings(path: Path):
    with RunFolder.create_or_open(path, {"test": "monitors"}) as folder:
        return recorded_firings(folder)
