"""The table of credit rules, and rules of other packages."""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from stepcredit import credit
from stepcredit.core.errors import UsageError
from stepcredit.credit import RULES, Need, all_rules, rule_named
from stepcredit.credit.tp_grpo import TpGrpoSettings


def install(folder: Path, line: str, module: str = "") -> None:
    """A package with one entry point, as pip would leave it."""
    info = folder / "other_rules-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepcredit.rules]\n{line}\n")
    (folder / "other_rules.py").write_text(module)


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(UsageError, match="credit rule 'tpgrpo' is unknown; did you mean 'tp_grpo'"):
        rule_named("tpgrpo")


def test_the_table_says_what_rules_read():
    assert rule_named("grpo").needs == (Need.OUTCOME,)
    assert not rule_named("grpo").reads_verdicts(rule_named("grpo").settings())
    rule = rule_named("tp_grpo")
    assert rule.reads_verdicts(TpGrpoSettings())
    assert not rule.reads_verdicts(TpGrpoSettings(process_weight=0.0))
    assert (rule.unit_for(TpGrpoSettings()), rule.unit_for(TpGrpoSettings(unit="step"))) == ("thought", "step")
    assert rule_named("grpo_ps").unit_for(rule_named("grpo_ps").settings()) == "step"


def test_a_package_adds_a_rule(tmp_path, monkeypatch):
    module = "from stepcredit.credit import RULES\nrule = RULES['grpo']\n"
    install(tmp_path, "twin_of_grpo = other_rules:rule", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert rule_named("twin_of_grpo") is RULES["grpo"]
    assert "twin_of_grpo" not in RULES


def test_packages_are_scanned_once_and_again_where_one_was_installed(tmp_path, monkeypatch):
    scans = []

    def counted(**asked):
        scans.append(asked)
        return entry_points(**asked)

    monkeypatch.setattr(credit, "entry_points", counted)
    monkeypatch.syspath_prepend(str(tmp_path))
    all_rules()
    first = len(scans)
    assert rule_named("grpo") is all_rules()["grpo"]
    assert len(scans) == first
    install(tmp_path, "twin_of_prl = other_rules:rule", "from stepcredit.credit import RULES\nrule = RULES['prl']\n")
    os.utime(tmp_path, ns=(1, 1))  # a clock of coarse ticks may give both states one time
    monkeypatch.delitem(sys.modules, "other_rules", raising=False)
    assert rule_named("twin_of_prl") is RULES["prl"]
    assert len(scans) == first + 1


def test_a_package_may_not_take_a_name_that_is_taken(tmp_path, monkeypatch):
    install(tmp_path, "grpo = other_rules:rule")
    monkeypatch.syspath_prepend(str(tmp_path))
    for ask in (all_rules, lambda: rule_named("grpo")):
        with pytest.raises(UsageError, match="grpo = other_rules:rule: the name is taken"):
            ask()


def test_a_package_must_bring_a_rule(tmp_path, monkeypatch):
    install(tmp_path, "odd = other_rules:thing", "thing = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "other_rules", raising=False)
    with pytest.raises(UsageError, match=r"odd = other_rules:thing: got int, wanted a stepcredit\.credit\.Rule"):
        all_rules()


def test_every_rule_of_the_table_has_numbers_worked_by_hand():
    """tests/credit/README.md names the test; that it is there is checked with all tables of the documents."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8").partition("## Numbers worked by hand")[2]
    listed = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert listed == sorted(RULES)
