import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_cases import group, scoring
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from stepcredit.core import judge_parts
from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.core.records import Group
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.outcome.meta_rater import MetaRater
from stepcredit.judges.outcome.spct import SpctJudge, SpctSettings, read_scores
from stepcredit.testing import ScriptedChat, ScriptedClassifier, ScriptedCritiqueRater


async def test_scores_are_summed_over_replies_whatever_the_order_shown():
    chat = ScriptedChat(scoring(len))
    judge: judge_parts.OutcomeJudge = SpctJudge(chat, SpctSettings(votes=6))
    verdicts = await judge.rate(group("a", "bbb", "cc"))
    assert [verdict.score for verdict in verdicts] == [6.0, 18.0, 12.0]
    assert verdicts[0].reason == "sum of 6 of 6 replies"
    assert len(verdicts[0].calls) == len(set(verdicts[0].calls)) == 6
    assert len({asked[0].content for asked in chat.asked}) > 1  # the orders differ


async def test_each_reply_sees_an_order_of_its_own_and_equal_seeds_the_same():
    async def orders(seed):
        judge = SpctJudge(ScriptedChat(scoring(len)), SpctSettings(votes=8, seed=seed))
        return [vote.order for vote in await judge.examine(group("a", "bb", "ccc", "dddd"))]

    assert await orders(0) == await orders(0)
    assert await orders(0) != await orders(1)
    assert len(set(await orders(0))) > 3
    assert all(sorted(order) == [0, 1, 2, 3] for order in await orders(0))


async def test_replies_that_cannot_be_read_do_not_count_and_none_at_all_is_unknown():
    texts = ["\\boxed{3, 5}", "\\boxed{11, 5}", "none", "\\boxed{4}"]
    found = await SpctJudge(ScriptedChat(texts), SpctSettings(votes=4)).rate(group("x", "y"))
    assert sum(verdict.score for verdict in found) == 8.0
    assert found[0].reason == "sum of 1 of 4 replies"
    none = await SpctJudge(ScriptedChat(texts[1:]), SpctSettings(votes=3)).rate(group("x", "y"))
    assert [(v.score, v.reason) for v in none] == [(None, "the score '11' is no whole number of 1..10")] * 2
    cut = await SpctJudge(ScriptedChat(["\\boxed{3, 5} and more"]), SpctSettings(votes=1, max_tokens=2)).rate(
        group("x", "y")
    )
    assert cut[0].reason == "the reply was cut by its length"


async def test_the_meta_filter_keeps_the_best_rated_half():
    """Replies that say 9 are rated best, so only they are summed."""
    texts = ["\\boxed{9}", "\\boxed{1}", "\\boxed{9}", "\\boxed{2}"]
    meta = ScriptedCritiqueRater(lambda critique: 1.0 if "9" in critique else -1.0)
    judge = SpctJudge(ScriptedChat(texts), SpctSettings(votes=4), meta=meta)
    assert [(v.score, v.reason) for v in await judge.rate(group("x"))] == [(18.0, "sum of 2 of 4 replies")]
    three = SpctJudge(ScriptedChat(texts), SpctSettings(votes=4, kept=3), meta=meta)
    assert (await three.rate(group("x")))[0].score == 19.0


async def test_a_reply_that_is_not_rated_is_never_among_the_kept():
    texts = ["\\boxed{9}", "\\boxed{1}"]
    meta = ScriptedCritiqueRater(lambda critique: None if "9" in critique else -5.0)
    judge = SpctJudge(ScriptedChat(texts), SpctSettings(votes=2), meta=meta)
    assert (await judge.rate(group("x")))[0].score == 1.0
    silent = SpctJudge(ScriptedChat(texts), SpctSettings(votes=2), meta=ScriptedCritiqueRater(lambda _: None))
    assert [(v.score, v.reason) for v in await silent.rate(group("x"))] == [(None, "a reply was not rated")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>\\boxed{1, 2}", "the think block is not closed"),
        ("scores 1, 2", "the reply has no \\boxed{} scores"),
        ("\\boxed{1, 2, 3}", "the box holds 3 of 2 scores: '1, 2, 3'"),
        ("\\boxed{1, 2.5}", "the score '2.5' is no whole number of 1..10"),
        ("\\boxed{0, 2}", "the score '0' is no whole number of 1..10"),
        ("\\boxed{-1, 2}", "the score '-1' is no whole number of 1..10"),
        ("\\boxed{1, }", "the score '' is no whole number of 1..10"),
        ("\\boxed{1, 2} \\boxed{}", "the box holds 1 of 2 scores: ''"),
    ],
)
def test_only_whole_scores_of_all_solutions_are_read(text, reason):
    assert read_scores(text, 2, low=1, high=10) == ((), reason)


def test_the_last_box_behind_the_thoughts_counts():
    assert read_scores("<think>\\boxed{1,1}</think>\\boxed{2,3} or \\boxed{ 4 , 10 }", 2, low=1, high=10)[0] == (4, 10)


async def test_tags_inside_solutions_do_nothing_and_no_reference_answer_is_shown():
    chat = ScriptedChat(["\\boxed{5, 5}"])
    await SpctJudge(chat, SpctSettings(votes=1)).rate(group("x</solution_1>", "{low}", problem="{count} </problem>"))
    text = chat.asked[0][0].content
    assert "\n{count} < /problem>\n</problem>" in text
    assert "x< /solution_1>" in text
    assert "{low}" in text
    assert "Here are a problem and 2 solutions to it." in text


async def test_failures_carry_the_group_and_a_cost_limit_passes_through():
    with pytest.raises(JudgeError, match="g0: an SPCT model failed: gone"):
        await SpctJudge(ScriptedChat([EngineError("gone")]), SpctSettings(votes=1)).rate(group("a"))
    with pytest.raises(BudgetError):
        await SpctJudge(ScriptedChat([BudgetError("0 left")]), SpctSettings(votes=1)).rate(group("a"))
    assert await SpctJudge(ScriptedChat([])).rate(Group("g0", ())) == ()
    for wrong in ({"votes": 0}, {"kept": 9}, {"kept": 0}, {"low": 10}, {"max_tokens": 0}):
        with pytest.raises(UsageError):
            SpctSettings(**wrong)
    chat, meta = ScriptedChat([]), ScriptedCritiqueRater(lambda _: None)
    made = [SpctJudge(chat), SpctJudge(chat, SpctSettings(votes=2)), SpctJudge(chat, meta=meta)]
    assert len({judge.fingerprint for judge in made}) == 3


TEMPLATE = ChatTemplate("{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}")


@cache
def byte_tokenizer() -> FileTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return FileTokenizer(raw)


@pytest.mark.parametrize("classes", [1, 2])
async def test_the_meta_rater_reads_the_log_odds_at_the_critiques_end(classes):
    tokenizer = byte_tokenizer()

    def script(ids):
        value = 2.0 if tokenizer.decode(ids).endswith("it is good") else -3.0
        return [value] if classes == 1 else [0.5, 0.5 + value]

    classifier = ScriptedClassifier(script, classes=classes)
    rater: judge_parts.CritiqueRater = MetaRater(classifier, tokenizer, TEMPLATE)
    assert (await rater.rate_critique("p", ["one", "two"], "it is good\n")).score == pytest.approx(2.0)
    assert (await rater.rate_critique("p", ["one", "two"], "it is bad")).score == pytest.approx(-3.0)
    read = tokenizer.decode(classifier.asked[0][0])
    assert read == "user p\n\nSolution 1:\none\n\nSolution 2:\ntwo assistant it is good"


async def test_the_meta_rater_is_unknown_where_it_cannot_read():
    tokenizer = byte_tokenizer()
    short = MetaRater(ScriptedClassifier(lambda _: [0.0], classes=1, context=5), tokenizer, TEMPLATE)
    assert (await short.rate_critique("p", ["a"], "c")).reason.endswith("the model reads 5")
    broken = MetaRater(ScriptedClassifier(lambda _: [math.nan], classes=1), tokenizer, TEMPLATE)
    assert (await broken.rate_critique("p", ["a"], "c")).reason == "the meta reward model gave no finite number"
    with pytest.raises(UsageError, match="has 1 or 2 classes, got 3"):
        MetaRater(ScriptedClassifier(lambda _: [0.0] * 3, classes=3), tokenizer, TEMPLATE)


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 3))
def test_any_reply_gives_all_scores_in_bounds_or_none(text, count):
    for reply in (text, f"\\boxed{{{text}}}"):
        scores, reason = read_scores(reply, count, low=1, high=10)
        assert bool(scores) != bool(reason)
        assert len(scores) in (0, count)
        assert all(1 <= score <= 10 for score in scores)
