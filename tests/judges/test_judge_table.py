import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent / name) for name in ("thinkprm", "genprm")]

from genprm_doubles import CHAT, LITTLE
from thinkprm_parts import small_template, small_tokenizer

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.judges import (
    JUDGES,
    GenPrmSettings,
    IntrinsicSettings,
    ParseStatistics,
    ThinkPRMSettings,
    judge_entry,
)
from stepcredit.testing import ScriptedWriter


def test_judges_that_need_nothing_are_made_from_their_settings():
    statistics = ParseStatistics()
    for name in ("markers", "world-markers"):
        judge = judge_entry(name).make(IntrinsicSettings(retries=0), statistics=statistics)
        assert judge.scale is Scale.BINARY
        assert judge_entry(name).needs == ()
    assert JUDGES["markers"].make().fingerprint != JUDGES["world-markers"].make().fingerprint


def test_judges_that_write_are_made_from_writer_tokenizer_and_template():
    tokenizer, chat = small_tokenizer(), small_template()
    thinkprm = judge_entry("thinkprm").make(ScriptedWriter(tokenizer, []), tokenizer, chat, ThinkPRMSettings(votes=2))
    assert thinkprm.scale is Scale.PROBABILITY
    genprm = judge_entry("genprm").make(ScriptedWriter(LITTLE, []), LITTLE, CHAT, GenPrmSettings(reward_source="hard"))
    assert genprm.scale is Scale.BINARY
    assert judge_entry("thinkprm").needs == judge_entry("genprm").needs == ("writer", "tokenizer", "chat template")


def test_judges_of_steps_say_what_they_need():
    assert judge_entry("discriminative").needs == ("token classifier", "step format")
    assert judge_entry("step-critic").needs == ("chat model",)


def test_an_unknown_judge_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="unknown judge 'marker'; did you mean 'markers'"):
        judge_entry("marker")
    with pytest.raises(UsageError, match="unknown judge 'zzz'; known: markers, "):
        judge_entry("zzz")
