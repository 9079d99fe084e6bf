"""Records to credit: whole groups in, one credit a rollout out, nobody lost."""

import math
from dataclasses import replace

import numpy as np
import pytest

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.pack import pack_of
from stepcredit.core.records import (
    Failure,
    Group,
    Judgement,
    Label,
    Outcome,
    Prefix,
    Problem,
    Rollout,
    Steps,
    Verdict,
)
from stepcredit.credit.batch import assign
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.credit.grpo_ps import GrpoPsSettings
from stepcredit.credit.scored.pure import PureSettings
from stepcredit.credit.shuffled import ShuffledSettings
from stepcredit.credit.tp_grpo import TpGrpoSettings

LABEL = {"C": Label.CORRECT, "I": Label.INCORRECT, "M": Label.MATCHED, "U": Label.MISMATCHED}


def outcome_of(group: str, sample: int, status: str, tokens: int) -> Outcome:
    name = f"{group}/{sample}"
    ids = np.arange(tokens)
    rollout = Rollout(name, Problem(group, "?", "1"), group, sample, "x" * tokens, np.arange(3), ids, ids)
    return Outcome(rollout, status, reason="no reference" if status == "unscorable" else "")


def steps_of(outcome: Outcome, count: int, unit: str = "thought") -> Steps:
    """`count` steps of two tokens."""
    return Steps(outcome, 2 * np.arange(count), unit, np.zeros(count, np.bool_), closed=True)


def judged(outcome: Outcome, units: str) -> Judgement:
    verdicts = tuple(Verdict(label=LABEL[u]) if u in LABEL else Verdict(reason="no reply") for u in units)
    return Judgement(steps_of(outcome, len(units)), verdicts, "test judge")


def batch(groups: dict[str, list[tuple[str, str]]]) -> tuple[list[Group], list[Judgement]]:
    """Groups of (status, units); units '' were not judged and have four tokens."""
    built, cuts = [], []
    for name, members in groups.items():
        outcomes = [outcome_of(name, i, status, 2 * len(units) or 4) for i, (status, units) in enumerate(members)]
        built.append(Group(name, tuple(outcomes)))
        cuts += [judged(o, units) for o, (_, units) in zip(outcomes, members, strict=True) if units]
    return built, cuts


MIXED = {"a": [("right", "CIC"), ("wrong", "UM")], "b": [("right", "C"), ("right", "IC"), ("wrong", "M")]}
TP = TpGrpoSettings()


def test_credit_follows_the_group_of_each_rollout():
    groups, cuts = batch(MIXED)
    credited, summary = assign(groups, cuts, rule="tp_grpo", settings=TP)
    assert [credit.steps.rollout.id for credit in credited] == ["a/0", "a/1", "b/0", "b/1", "b/2"]
    np.testing.assert_allclose(credited[0].advantages, [1, 1, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(credited[1].advantages, [0, 0, -1, -1])
    easy, hard, size = math.sqrt(1 / 2), math.sqrt(2), 2 / 3
    np.testing.assert_allclose(credited[3].advantages, [easy - size] * 2 + [easy] * 2, rtol=1e-6)
    np.testing.assert_allclose(credited[4].advantages, [-hard] * 2, rtol=1e-6)
    assert all(credit.kept and not credit.note for credit in credited)
    assert {credit.rule for credit in credited} == {"tp_grpo"}
    assert credited[0].signals == ("outcome", "flags")
    assert credited[0].judgement is cuts[0]
    assert [credit.group_digest for credit in credited[:3]] == [groups[0].digest] * 2 + [groups[1].digest]
    assert (summary.groups, summary.rollouts, summary.kept, dict(summary.dropped)) == (2, 5, 5, {})
    assert (summary.tokens, summary.kept_tokens) == (18, 18)


def test_arrival_order_of_judgements_and_groups_changes_no_credit():
    groups, cuts = batch(MIXED)
    straight, _ = assign(groups, cuts, rule="tp_grpo", settings=TP)
    turned, _ = assign(groups[::-1], cuts[::-1], rule="tp_grpo", settings=TP)
    found = {credit.steps.rollout.id: credit.advantages for credit in turned}
    for credit in straight:
        np.testing.assert_array_equal(found[credit.steps.rollout.id], credit.advantages)


def test_statistics_are_taken_before_anything_is_filtered():
    """A rollout that was not judged, and one with an unknown verdict, still count in mean, std and acc_G."""
    whole, cuts = batch({"a": [("right", "IC"), ("right", "C"), ("right", "C"), ("wrong", "M")]})
    want, _ = assign(whole, cuts, rule="tp_grpo", settings=TP)
    groups, cuts = batch({"a": [("right", "IC"), ("right", ""), ("right", "?C"), ("wrong", "M")]})
    got, summary = assign(groups, cuts, rule="tp_grpo", settings=TP)
    np.testing.assert_array_equal(got[0].advantages, want[0].advantages)
    np.testing.assert_array_equal(got[3].advantages, want[3].advantages)
    assert [credit.note for credit in got] == ["", "not judged", "unknown verdict", ""]
    assert [credit.kept for credit in got] == [True, False, False, True]
    assert np.isnan(got[1].advantages).all()
    assert dict(summary.dropped) == {"not judged": 1, "unknown verdict": 1}
    assert got[1].judgement is None
    assert len(pack_of([credit for credit in got if credit.kept]).ids) == 6 + 4 + 2


@pytest.mark.parametrize(
    ("on_unknown", "note"), [("outcome_only", "1 of 2 verdicts unknown"), ("neutral", "not judged")]
)
def test_unknown_verdicts_may_be_kept_and_say_so(on_unknown, note):
    groups, cuts = batch({"a": [("right", "?C"), ("right", ""), ("wrong", "M")]})
    credited, summary = assign(groups, cuts, rule="tp_grpo", settings=TpGrpoSettings(on_unknown=on_unknown))
    assert note in [credit.note for credit in credited]
    np.testing.assert_allclose(credited[1].advantages, [math.sqrt(0.5)] * 4, rtol=1e-6)
    assert summary.kept == 3


def test_unscorable_rollouts_and_short_groups_get_no_advantage_and_are_counted():
    groups, cuts = batch(
        {
            "a": [("right", "IC"), ("unscorable", "C"), ("wrong", "M")],
            "b": [("right", "C"), ("unscorable", "C")],
            "c": [("right", "C")],
        }
    )
    lost = Group("d", (), (Failure("d", 0, "server gone"), Failure("d", 1, "server gone")))
    credited, summary = assign([*groups[:1], lost, *groups[1:]], cuts, rule="tp_grpo", settings=TP)
    np.testing.assert_allclose(credited[0].advantages, [0.5, 0.5, 1, 1])
    short = "fewer than 2 scorable rollouts in the group"
    assert [credit.note for credit in credited] == ["", "unscorable outcome", "", short, "unscorable outcome", short]
    assert all(np.isnan(credit.advantages).all() for credit in credited if not credit.kept)
    assert (summary.groups, summary.short_groups, summary.failures) == (4, 3, 2)
    assert dict(summary.dropped) == {short: 2, "unscorable outcome": 2}
    assert summary.rollouts == summary.kept + sum(summary.dropped.values()) == 6


def test_an_empty_completion_counts_in_its_group_and_is_not_kept():
    groups, cuts = batch({"a": [("right", "IC"), ("wrong", "M")]})
    empty = outcome_of("a", 2, "wrong", 0)
    group = Group("a", (*groups[0].outcomes, empty))
    credited, summary = assign([group], cuts, rule="tp_grpo", settings=TP, keep="all")
    np.testing.assert_allclose(credited[0].advantages[-1], math.sqrt(2), rtol=1e-6)
    assert (credited[2].kept, credited[2].note, len(credited[2].advantages)) == (False, "empty completion", 0)
    assert dict(summary.dropped) == {"empty completion": 1}


def test_groups_that_are_all_right_or_all_wrong():
    groups, cuts = batch({"a": [("right", "CIC"), ("right", "C")], "b": [("wrong", "UM"), ("wrong", "M")]})
    credited, summary = assign(groups, cuts, rule="tp_grpo", settings=TP)
    np.testing.assert_allclose(credited[0].advantages, [0, 0, -1, -1, 0, 0])
    assert [credit.note for credit in credited] == ["", "zero advantage", "zero advantage", "zero advantage"]
    assert (summary.all_right, summary.all_wrong) == (1, 1)
    assert (summary.outcome_size, summary.process_size) == (0.0, pytest.approx(1 / 3))


def test_nonzero_process_drops_clean_solutions_unless_there_is_no_process_reward_at_all():
    groups, cuts = batch(MIXED)
    credited, summary = assign(groups, cuts, rule="tp_grpo", settings=TP, keep="nonzero_process")
    assert [credit.kept for credit in credited] == [True, True, False, True, False]
    assert dict(summary.dropped) == {"zero process": 2}
    for rule, settings in (("grpo", GrpoSettings()), ("tp_grpo", TpGrpoSettings(process_weight=0.0))):
        credited, _ = assign(groups, cuts, rule=rule, settings=settings, keep="nonzero_process")
        assert all(credit.kept for credit in credited)


def test_outcome_rules_need_no_cut_and_hold_no_judgement():
    groups, cuts = batch(MIXED)
    bare, _ = assign(groups, [], rule="grpo", settings=GrpoSettings())
    cut, _ = assign(groups, cuts, rule="grpo", settings=GrpoSettings())
    weightless, _ = assign(groups, [], rule="tp_grpo", settings=TpGrpoSettings(process_weight=0.0))
    for a, b, c in zip(bare, cut, weightless, strict=True):
        assert a.advantages.tobytes() == b.advantages.tobytes() == c.advantages.tobytes()
        assert (a.judgement, b.judgement, c.judgement) == (None, None, None)
        assert a.signals == b.signals == c.signals == ("outcome",)
    assert (len(bare[0].steps), len(cut[0].steps)) == (1, 3)


def test_step_scores_reach_the_rules_that_read_them():
    groups, cuts = batch({"a": [("right", "CC"), ("wrong", "CC")]})
    scored = [
        replace(cut, verdicts=tuple(Verdict(score=s) for s in scores))
        for cut, scores in zip(cuts, [(1.0, 0.0), (0.0, -1.0)], strict=True)
    ]
    credited, summary = assign(groups, scored, rule="grpo_ps", settings=GrpoPsSettings(std="none"))
    np.testing.assert_allclose(credited[0].advantages, [1, 1, 0, 0])
    np.testing.assert_allclose(credited[1].advantages, [-1, -1, -1, -1])
    assert summary.process_size == pytest.approx(0.75)


@pytest.mark.parametrize("asked", [{"keep": "nonzero_process"}, {"control": ShuffledSettings(seed=1)}])
def test_a_whitened_rule_has_no_process_part_to_shuffle_or_to_keep_by(asked):
    """Outcome and process are divided by the deviation of their sum: the rest of the outcome part holds outcomes."""
    groups, cuts = batch({"g": [("right", "C"), ("wrong", "I")]})
    scored = [replace(cut, verdicts=(Verdict(0.5),)) for cut in cuts]
    with pytest.raises(UsageError, match=r"credit rule pure whitens, .* set whiten = false in its settings, or leave"):
        assign(groups, scored, rule="pure", settings=PureSettings(), **asked)
    credited, _ = assign(groups, scored, rule="pure", settings=PureSettings(whiten=False), **asked)
    assert len(credited) == 2


def test_the_shuffled_control_keeps_the_same_rollouts_and_the_same_process_credit():
    groups, cuts = batch({f"g{i}": [("right", "CIC"), ("wrong", "UM"), ("wrong", "?M")] for i in range(20)})
    plain, summary = assign(groups, cuts, rule="tp_grpo", settings=TP)
    control = ShuffledSettings(seed=1)
    mixed, mixed_summary = assign(groups, cuts, rule="tp_grpo", settings=TP, control=control)
    outcome, _ = assign(groups, [], rule="grpo", settings=GrpoSettings())
    assert mixed_summary == summary
    assert [credit.kept for credit in mixed] == [credit.kept for credit in plain]
    assert {credit.rule for credit in mixed} == {"shuffled(tp_grpo)"}

    def process(credited):
        kept = [i for i, credit in enumerate(credited) if credit.kept]
        return np.concatenate([credited[i].advantages - outcome[i].advantages for i in kept])

    assert (process(plain) != process(mixed)).any()
    np.testing.assert_allclose(np.sort(process(mixed)), np.sort(process(plain)), atol=1e-5)


def test_nothing_in_gives_nothing_out():
    credited, summary = assign([], [], rule="tp_grpo", settings=TP)
    assert (credited, summary.groups, summary.rollouts) == ((), 0, 0)
    assert math.isnan(summary.process_size)


def test_records_that_do_not_belong_together_are_refused():
    groups, cuts = batch(MIXED)

    def tp(groups, cuts):
        return assign(groups, cuts, rule="tp_grpo", settings=TP)

    with pytest.raises(CreditError, match="a: the group was given 2 times"):
        tp([*groups, groups[0]], cuts)
    with pytest.raises(CreditError, match="b/0: the rollout was cut or judged, and is in none of the groups"):
        tp(groups[:1], cuts)
    with pytest.raises(CreditError, match="a/0: the rollout was cut or judged twice"):
        tp(groups, [*cuts, cuts[0]])
    with pytest.raises(CreditError, match="rule tp_grpo needs judgements, and none of the 5 rollouts has one"):
        tp(groups, [])
    flipped = judged(replace(groups[0].outcomes[0], status="wrong"), "UUM")
    with pytest.raises(CreditError, match="a/0: judged as wrong, its group says right"):
        tp(groups, [flipped, *cuts[1:]])
    paragraphs = steps_of(groups[0].outcomes[0], 3, "paragraph")
    with pytest.raises(CreditError, match="in one unit, got paragraph, thought; leave out the rollouts that were not"):
        tp(groups, [paragraphs, *cuts[1:]])
    branch = replace(groups[0].outcomes[0].rollout, prefix=Prefix("a/9", 2))
    with pytest.raises(CreditError, match="a/0: a continuation is not credited"):
        tp([Group("a", (Outcome(branch, "right"),))], [])
    with pytest.raises(UsageError, match="rule tp_grpo takes TpGrpoSettings, got GrpoSettings"):
        assign(groups, cuts, rule="tp_grpo", settings=GrpoSettings())


def test_steps_that_were_not_judged_count_as_unknown():
    groups, cuts = batch(MIXED)
    credited, _ = assign(groups, [cuts[0].steps, *cuts[1:]], rule="tp_grpo", settings=TP)
    assert (credited[0].note, len(credited[0].steps)) == ("not judged", 3)


SCORES = {"C": 1.0, "I": 0.0, "M": 0.0}


def scored(cuts: list[Judgement], *, labels: bool) -> list[Judgement]:
    """Judgements with the scores of their labels, or in their place."""

    def one(verdict: Verdict) -> Verdict:
        if not verdict.known:
            return verdict
        score = SCORES.get(next(name for name, label in LABEL.items() if label is verdict.label))
        return Verdict(score, verdict.label if labels else None, "" if score is not None or labels else "no score")

    return [replace(cut, verdicts=tuple(one(verdict) for verdict in cut.verdicts)) for cut in cuts]


def test_a_rule_of_labels_is_refused_where_the_judge_gives_scores_only():
    """It would pay outcomes alone and say nothing."""
    groups, cuts = batch({"a": [("right", "IC"), ("wrong", "M")]})
    settings = TpGrpoSettings(unit="step", on_unknown="outcome_only")
    with pytest.raises(CreditError, match="tp_grpo reads labels, and the judge gave scores only; take grpo_ps"):
        assign(groups, scored(cuts, labels=False), rule="tp_grpo", settings=settings)


def test_a_rule_of_scores_is_refused_where_the_judge_gives_labels_only():
    groups, cuts = batch({"a": [("right", "IC"), ("wrong", "M")]})
    with pytest.raises(CreditError, match="grpo_ps reads scores, and the judge gave labels only; take tp_grpo"):
        assign(groups, cuts, rule="grpo_ps", settings=GrpoPsSettings())


def test_a_verdict_that_lacks_what_the_rule_reads_is_named_as_such_and_not_as_unknown():
    groups, cuts = batch({"a": [("right", "IC"), ("wrong", "UM"), ("wrong", "M"), ("right", "?C")]})
    both = scored(cuts, labels=True)
    credited, summary = assign(groups, both, rule="grpo_ps", settings=GrpoPsSettings())
    assert [credit.note for credit in credited][1] == "a verdict without a score"
    assert dict(summary.dropped) == {"a verdict without a score": 1, "unknown verdict": 1}
    credited, _ = assign(groups, both, rule="grpo_ps", settings=GrpoPsSettings(on_unknown="neutral"))
    assert [credit.note for credit in credited][1:4:2] == [
        "1 of 2 verdicts without a score", "1 of 2 verdicts unknown"
    ]  # fmt: skip
    mixed = [scored([cut], labels=False)[0] if place == 0 else cut for place, cut in enumerate(cuts)]
    kept, _ = assign(groups, mixed, rule="tp_grpo", settings=TpGrpoSettings(on_unknown="outcome_only"))
    assert kept[0].note == "2 of 2 verdicts without a label"
