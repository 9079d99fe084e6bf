"""A rule of another package, as docs/guide/new_rule.md writes it: installed, credited with, and tried."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from test_credit_batch import batch, scored

from stepcredit.core.errors import UsageError
from stepcredit.core.pack import pack_of
from stepcredit.core.records import Credit
from stepcredit.credit import RULES, rule_named
from stepcredit.credit.additive import check_additive
from stepcredit.credit.batch import assign
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.recipes.recorded.settings import RecordedSettings

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "new_rule.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """The guide's file and its entry point, as pip would leave them."""
    (module,) = blocks("python")
    (toml,) = blocks("toml")
    name, target = re.search(r'^(\w+) = "(.+)"$', toml, re.MULTILINE).groups()
    info = tmp_path / "own_score-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-score\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepcredit.rules]\n{name} = {target}\n")
    (tmp_path / "own_score.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_score", raising=False)
    return info


def judged_batch():
    groups, cuts = batch({"a": [("right", "CI"), ("wrong", "MM")]})
    return groups, scored(cuts, labels=False)


def credited_with(name: str, settings: object) -> tuple[Credit, ...]:
    groups, cuts = judged_batch()
    return assign(groups, cuts, rule=name, settings=settings)[0]


@pytest.mark.usefixtures("installed")
def test_the_rule_of_the_guide_credits_a_batch_and_the_learner_takes_it():
    rule = rule_named("own_score")
    credited = credited_with("own_score", rule.settings(process_weight=0.5))
    np.testing.assert_array_equal(credited[0].advantages, [1.25, 1.25, 0.75, 0.75])
    np.testing.assert_array_equal(credited[1].advantages, [-1.25] * 4)
    assert (credited[0].rule, credited[0].signals) == ("own_score", ("outcome", "scores"))
    pack = pack_of([credit for credit in credited if credit.kept])
    np.testing.assert_array_equal(pack.advantages[pack.trained][:4], [1.25, 1.25, 0.75, 0.75])


@pytest.mark.usefixtures("installed")
def test_the_rule_of_the_guide_keeps_what_it_declares():
    rule = rule_named("own_score")
    assert check_additive(rule, rule.settings()) < 1e-6
    for own, plain in zip(
        credited_with("own_score", rule.settings(process_weight=0.0)),
        credited_with("grpo", GrpoSettings()),
        strict=True,
    ):
        np.testing.assert_array_equal(own.advantages, plain.advantages)
    with pytest.raises(UsageError, match="process_weight must be a finite number of at least 0, got -1"):
        rule.settings(process_weight=-1.0)
    with pytest.raises(UsageError, match="rule own_score takes OwnScoreSettings, got GrpoSettings"):
        credited_with("own_score", GrpoSettings())


@pytest.mark.usefixtures("installed")
def test_recipes_take_it_by_name(tmp_path):
    """Also where they refuse it, as they would refuse one of ours that reads scores."""
    with pytest.raises(UsageError, match="credit rule own_score reads scores, and markers gives some steps none"):
        RecordedSettings(tmp_path, credit="own_score", tokenizer=tmp_path)


def test_recorded_solutions_refuse_a_rule_that_reads_what_they_do_not_have(tmp_path):
    with pytest.raises(UsageError, match="credit rule prl reads log_ratio, and recorded solutions have none; take"):
        RecordedSettings(tmp_path, credit="prl", tokenizer=tmp_path)


def test_a_name_that_is_taken_is_refused(installed):
    (installed / "entry_points.txt").write_text("[stepcredit.rules]\nprl = own_score:RULE\n")
    with pytest.raises(UsageError, match=r"entry point stepcredit\.rules: prl = own_score:RULE: the name is taken"):
        rule_named("prl")
    assert RULES["prl"].source == "arXiv:2601.10201"
