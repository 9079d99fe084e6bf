"""The reader over a chat model: what is asked, what is fed back, and the name of everything that cannot be read."""

import random
from collections.abc import Mapping
from contextlib import contextmanager

import pytest
from judged_solutions import solution

from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.core.records import Label
from stepcredit.judges.intrinsic.judge import TIED, IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.prompts import quoted, user_message
from stepcredit.judges.intrinsic.replies import Matches, Reflection, Reflections, Reject, TracedVerification
from stepcredit.judges.intrinsic.server import ServerReader, ServerReaderSettings, clean
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)
from stepcredit.testing import ScriptedChat

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED
THINK = ("a = 1", "b = 2", "wait, b = 4", "fine")
TASKS = (
    SplitTask("How many?", THINK),
    ReflectTask("How many?", THINK),
    TraceTask("How many?", THINK[:3]),
    VerifyTask("How many?", THINK[:3], 1, "b = 2"),
    TraceVerifyTask("How many?", THINK[:3]),
    MatchTask("How many?", THINK, ("So 4.",)),
)
REPLIES = (
    '{"steps": [[0, 1], [2, 3]]}',
    '{"reflections": [{"step": 2, "kind": "error"}]}',
    '{"source": 1, "evidence": "b = 2"}',
    '{"verdicts": ["wrong"]}',
    '{"source": 1, "evidence": "b = 2", "verdicts": ["wrong"]}',
    Matches((True, False, False, True)).write(),
)
GOOD_MATCH = REPLIES[5]


class Sent:
    """Keeps the further fields of requests, and refuses them if told to."""

    def __init__(self) -> None:
        self.now: Mapping = {}
        self.all: list[dict] = []

    @contextmanager
    def fields(self, fields):
        self.now = fields
        self.all.append(dict(fields))
        yield
        self.now = {}


class Watched:
    """A scripted chat model that keeps how it was asked."""

    def __init__(self, script) -> None:
        self.chat = ScriptedChat(script)
        self.fingerprint = self.chat.fingerprint
        self.asked: list[dict] = []

    async def complete(self, messages, **more):
        self.asked.append({"content": messages[0].content, **more})
        return await self.chat.complete(messages, **more)


def judge_of(replies, *, more=None, **changes) -> IntrinsicJudge:
    reader = ServerReader(ScriptedChat(replies), ServerReaderSettings(**changes))
    return IntrinsicJudge(reader, more)


def wrong_solution():
    return solution(THINK, ("So 4.",), status="wrong")


async def test_a_right_solution_is_read_by_reflection_and_trace():
    judge = judge_of([REPLIES[1], REPLIES[4]])
    verdicts = await judge.judge(solution(THINK, ("4",)))
    assert [v.label for v in verdicts] == [C, X, C, C, C]
    assert verdicts[1].reason == "taken back at step 2: b = 2"
    assert len(verdicts[1].calls) == 2


async def test_a_wrong_solution_is_matched_and_every_token_is_counted():
    judge = judge_of([GOOD_MATCH])
    assert [v.label for v in await judge.judge(wrong_solution())] == [M, U, U, M, M]
    counts = judge.statistics.counts["P4", "wrong"]
    assert (counts.first_try, counts.unmetered) == (1, 0)
    assert counts.input_tokens > 100
    assert counts.output_tokens == len(GOOD_MATCH.split())


async def test_steps_are_proposed_as_ranges_that_tile():
    judge = judge_of(['{"steps": [[0, 1], [3, 3]]}', REPLIES[0]])
    assert await judge.propose(solution(THINK, ("4",))) == ((0, 2), (2, 4))
    assert judge.statistics.counts["P0", "right"].rejects == {"not a tiling": 1}


async def test_one_paragraph_needs_no_decomposition():
    judge = judge_of([])
    assert await judge.propose(solution(("a",), ("4",))) == ((0, 1),)
    assert await judge.propose(solution((), ("4",))) == ()


@pytest.mark.parametrize(("task", "reply"), list(zip(TASKS, REPLIES, strict=True)))
async def test_every_task_is_asked_in_one_message_and_its_form_is_read(task, reply):
    chat = ScriptedChat([reply])
    answer = await ServerReader(chat).answer(task, attempt=0, error="")
    assert not isinstance(parse(task, answer.text), Reject)
    ((message,),) = chat.asked
    assert message.role == "user"
    for text in task.paragraphs if isinstance(task, SplitTask) else task.steps:
        assert quoted(text) in message.content
    assert "code fence" in message.content
    assert "rejected" not in message.content


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I would say all of them.", "not JSON"),
        ("", "empty"),
        ("<think>long thoughts</think>\n", "empty"),
        (f"```json\n{GOOD_MATCH}\n```", "in a code fence"),
        (f"```\n{GOOD_MATCH}\n```", "in a code fence"),
        (f"{GOOD_MATCH}<|im_end|>", "chat tokens"),
        (f"<｜Assistant｜>{GOOD_MATCH}", "chat tokens"),
        (f"{GOOD_MATCH}</s>", "chat tokens"),
        (f"Here it is: {GOOD_MATCH}", "text around the JSON"),
        (f"{GOOD_MATCH}\n{GOOD_MATCH}", "text around the JSON"),
        (GOOD_MATCH[:-4], "not JSON"),
        ('{"matches": [{"step": 9, "verdict": "no"}]}', "unknown index"),
        ('{"matches": [{"step": 1, "verdict": "no"}]}', "wrong order"),
        ('{"matches": []}', "wrong count"),
        ('{"matches": [{"step": 0, "verdict": "perhaps"}]}', "wrong count"),
        ('{"matches": [], "note": ""}', "wrong keys"),
        ("[]", "not an object"),
    ],
)
async def test_what_cannot_be_read_is_named_counted_kept_and_asked_again(reply, reason):
    judge = judge_of([reply, GOOD_MATCH])
    if "perhaps" in reply:
        reason = "unknown word"
        judge = judge_of([GOOD_MATCH.replace('"no"', '"perhaps"'), GOOD_MATCH])
        reply = GOOD_MATCH.replace('"no"', '"perhaps"')
    assert [v.label for v in await judge.judge(wrong_solution())] == [M, U, U, M, M]
    counts = judge.statistics.counts["P4", "wrong"]
    assert counts.rejects == {reason: 1}
    assert (counts.calls, counts.after_retry) == (2, 1)
    (kept,) = judge.statistics.rejected
    assert kept.raw.strip() == reply.strip()


async def test_a_cut_reply_is_never_read_even_if_it_is_whole():
    judge = judge_of([GOOD_MATCH + " " * 3 + "and more words"] * 3, max_tokens=len(GOOD_MATCH.split()))
    verdicts = await judge.judge(wrong_solution())
    assert not any(v.known for v in verdicts)
    words = len(GOOD_MATCH.split())
    wanted = (
        f"P4 unreadable after 3 replies: cut by length: the reply has more than {words} tokens; write a shorter one"
    )
    assert verdicts[0].reason == wanted
    assert judge.statistics.counts["P4", "wrong"].rejects == {"cut by length": 3}


async def test_the_error_is_fed_back_as_a_quotation_with_a_new_seed_and_some_heat():
    chat = Watched(['say "<|im_end|>"', "{}", GOOD_MATCH])
    await IntrinsicJudge(ServerReader(chat)).judge(wrong_solution())
    assert [asked["temperature"] for asked in chat.asked] == [0.0, 0.7, 0.7]
    assert len({asked["seed"] for asked in chat.asked}) == 3
    first, second, third = (asked["content"] for asked in chat.asked)
    assert second.startswith(first)
    assert "An earlier reply was rejected (\"chat tokens: the reply holds '\\u003c|im_end|>'\")" in second
    assert "wrong keys" in third
    assert "<|im_end|>" not in second


async def test_fences_can_be_opened_and_thinking_is_left_out():
    fenced = f"<think>let me see {{}}</think>\n```json\n{GOOD_MATCH}\n```"
    judge = judge_of([fenced], fences="open")
    assert (await judge.judge(wrong_solution()))[0].label is M
    assert judge.statistics.rejected == ()


def test_what_is_json_is_never_touched():
    text = '{"source": 0, "evidence": "so </think> and <|im_end|> ```"}'
    assert clean(text) == (text, None)


async def test_votes_are_taken_on_replies_and_ties_label_nothing():
    ballots = [Matches(bits).write() for bits in ((True, True, False, False), (True, False, False, True))]
    judge = judge_of(ballots, more=IntrinsicSettings(votes=2), temperature=1.0)
    verdicts = await judge.judge(wrong_solution())
    assert [v.label for v in verdicts] == [M, None, U, None, M]
    assert verdicts[1].reason == verdicts[3].reason == TIED
    assert not verdicts[1].known
    assert len(verdicts[0].calls) == 2


async def test_three_traces_vote_and_one_that_cannot_be_read_has_no_vote():
    def reply(messages):
        return REPLIES[1] if "looks back" in messages[0].content else next(traces)

    one = TracedVerification(1, "b = 2", (True,)).write()
    other = TracedVerification(0, "a = 1", (True, False)).write()
    traces = iter([one, other, one])
    judge = judge_of(reply, more=IntrinsicSettings(votes=3, retries=0), temperature=1.0)
    assert [v.label for v in await judge.judge(solution(THINK))] == [C, X, C, C]
    traces = iter(["?", other, "?"])
    assert [v.label for v in await judge.judge(solution(THINK))] == [X, C, C, C]
    counts = judge.statistics.counts["P23", "right"]
    assert (counts.asked, counts.first_try, counts.failed) == (6, 4, 2)
    traces = iter("???")
    verdicts = await judge.judge(solution(THINK))
    assert verdicts[0].reason.startswith("P23 unreadable after 1 replies: not JSON")
    assert len(verdicts[0].calls) == 3


async def test_votes_have_seeds_of_their_own():
    chat = Watched(lambda _: "?")
    reader = ServerReader(chat, ServerReaderSettings(temperature=1.0))
    await IntrinsicJudge(reader, IntrinsicSettings(votes=3)).judge(wrong_solution())
    assert len({asked["seed"] for asked in chat.asked}) == 9


def test_variants_ask_differently_and_are_part_of_the_fingerprint():
    chat = ScriptedChat([])
    split = {v: user_message(TASKS[0], split=v) for v in ("purpose", "turns", "finest")}
    trace = {v: user_message(TASKS[4], trace=v) for v in ("backward", "forward", "quote-first")}
    assert len(set(split.values())) == len(set(trace.values())) == 3
    assert trace["quote-first"].index('"evidence": "quotation"') < trace["quote-first"].index('"source": number')
    changes = [{}, {"max_tokens": 9}, {"temperature": 0.5}, {"retry_temperature": 0.1}, {"seed": 1}]
    changes += [{"split_prompt": "turns"}, {"trace_prompt": "forward"}, {"structured": "off"}, {"fences": "open"}]
    prints = {ServerReader(chat, ServerReaderSettings(**change)).fingerprint for change in changes}
    assert len(prints) == len(changes)
    other = ServerReader(ScriptedChat([], name="other"))
    assert other.fingerprint not in prints
    thinking = ServerReader(chat, ServerReaderSettings(thinking="trace"), fields=Sent().fields)
    assert thinking.fingerprint not in prints


class Refusing:
    """A chat model of a server that refuses a field, or prompts that are too long."""

    fingerprint = "refusing"

    def __init__(self, sent: Sent, *, refuses: str = "response_format", says: str = "Extra inputs") -> None:
        self.sent, self.refuses, self.says = sent, refuses, says
        self.chat = ScriptedChat(lambda _: GOOD_MATCH)

    async def complete(self, messages, **more):
        if self.refuses in self.sent.now or not self.refuses:
            raise UsageError(f"the server refuses chat/completions ({self.says})")
        return await self.chat.complete(messages, **more)


async def test_a_schema_is_sent_where_the_server_takes_one():
    sent = Sent()
    reader = ServerReader(ScriptedChat([GOOD_MATCH]), fields=sent.fields)
    await reader.answer(TASKS[5], attempt=0, error="")
    (fields,) = sent.all
    schema = fields["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["matches"]["minItems"] == 4
    assert fields["response_format"]["type"] == "json_schema"


async def test_a_server_that_refuses_schemas_is_asked_without_from_then_on():
    sent = Sent()
    reader = ServerReader(Refusing(sent), fields=sent.fields)  # type: ignore[arg-type]
    for _ in range(2):
        assert (await reader.answer(TASKS[5], attempt=0, error="")).text == GOOD_MATCH
    assert ["response_format" in fields for fields in sent.all] == [True, False, False]
    held = ServerReader(Refusing(sent), ServerReaderSettings(structured="on"), fields=sent.fields)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Extra inputs"):
        await held.answer(TASKS[5], attempt=0, error="")


async def test_a_refusal_with_another_cause_is_an_error_and_does_not_switch_schemas_off():
    sent = Sent()
    reader = ServerReader(Refusing(sent, refuses="", says="key"), fields=sent.fields)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(UsageError, match="key"):
            await reader.answer(TASKS[5], attempt=0, error="")
    assert ["response_format" in fields for fields in sent.all] == [True, False, True, False]


async def test_a_prompt_that_is_too_long_makes_its_solution_unknown_and_is_not_asked_again():
    said = "prompt and completion do not fit the model's context (limit 10)"
    judge = IntrinsicJudge(ServerReader(Refusing(Sent(), refuses="", says=said)))  # type: ignore[arg-type]
    verdicts = await judge.judge(wrong_solution())
    assert {v.reason.partition(": the prompt has")[0] for v in verdicts} == {
        "P4 unreadable after 1 replies: longer than the model's context"
    }
    assert judge.statistics.counts["P4", "wrong"].rejects == {"longer than the model's context": 1}


@pytest.mark.parametrize(
    ("thinking", "flags"),
    [
        ("server", [None] * 6),
        ("on", [True] * 6),
        ("off", [False] * 6),
        ("trace", [False, False, True, True, True, False]),
    ],
)
async def test_thinking_is_switched_by_task(thinking, flags):
    sent = Sent()
    settings = ServerReaderSettings(thinking=thinking, structured="off")
    reader = ServerReader(ScriptedChat(list(REPLIES)), settings, fields=sent.fields)
    for task in TASKS:
        await reader.answer(task, attempt=0, error="")
    assert [fields.get("chat_template_kwargs", {}).get("enable_thinking") for fields in sent.all] == flags


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperatures must be at least 0, got -1.0 and 0.7"),
        ({"temperature": float("nan")}, "temperatures must be at least 0"),
        ({"trace_prompt": "sideways"}, "trace_prompt must be one of backward, forward, quote-first, got 'sideways'"),
        ({"structured": "maybe"}, "structured must be one of auto, on, off"),
    ],
)
def test_settings_are_checked(changes, told):
    with pytest.raises(UsageError, match=told):
        ServerReaderSettings(**changes)


def test_what_cannot_be_sent_is_refused():
    for changes in ({"structured": "on"}, {"thinking": "off"}):
        with pytest.raises(UsageError, match="takes no further fields"):
            ServerReader(ScriptedChat([]), ServerReaderSettings(**changes))


async def test_a_broken_model_is_a_judge_error_and_a_cost_limit_passes_through():
    with pytest.raises(JudgeError, match="r0: the reader broke: gone"):
        await judge_of([EngineError("gone")]).judge(wrong_solution())
    with pytest.raises(BudgetError):
        await judge_of([BudgetError("0 calls left")]).judge(wrong_solution())


def test_mangled_replies_raise_nothing_and_invent_nothing():
    """Whole good replies are read; anything else ends in a named reject, whatever was cut, doubled or put in."""
    draws = random.Random(11)
    pieces = ["```json\n", "```", "<|im_end|>", "</think>", "{", "}", '"', "\\", "NaN", "null", "0", "é", "\ud83d", " "]
    for _ in range(40_000):
        which = draws.randrange(len(TASKS))
        task, reply = TASKS[which], REPLIES[which]
        for _ in range(draws.randrange(1, 4)):
            at, end = sorted((draws.randrange(len(reply) + 1), draws.randrange(len(reply) + 1)))
            reply = draws.choice((reply[:at] + reply[end:], reply[:at] + draws.choice(pieces) + reply[at:]))
        text, fault = clean(reply, fences=draws.choice(("reject", "open")))
        read = fault or parse(task, text)
        if not isinstance(read, Reject):
            assert parse(task, read.write()) == read
            assert text in reply


def test_reflections_of_a_schema_are_those_the_parser_takes():
    assert Reflections((Reflection(2, "error"),)).write() == REPLIES[1]
