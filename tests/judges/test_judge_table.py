import pytest

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.judges import JUDGES, IntrinsicSettings, ParseStatistics, judge_entry


def test_judges_that_need_nothing_are_made_from_their_settings():
    statistics = ParseStatistics()
    for name in ("markers", "world-markers"):
        judge = judge_entry(name).make(IntrinsicSettings(retries=0), statistics=statistics)
        assert judge.scale is Scale.BINARY
        assert judge_entry(name).needs == ()
    assert JUDGES["markers"].make().fingerprint != JUDGES["world-markers"].make().fingerprint


def test_judges_of_steps_say_what_they_need():
    assert judge_entry("discriminative").needs == ("token classifier", "step format")
    assert judge_entry("step-critic").needs == ("chat model",)


def test_an_unknown_judge_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="unknown judge 'marker'; did you mean 'markers'"):
        judge_entry("marker")
    with pytest.raises(UsageError, match="unknown judge 'zzz'; known: markers, "):
        judge_entry("zzz")
