"""ThinkPRM's prompts as token ids: golden, switches, injection, refusals (thinkprm.md 9, items 1, 4, 5)."""

from dataclasses import replace

import pytest
from thinkprm_parts import (
    BOS,
    EOS,
    R1_TEMPLATE,
    R1_TOKENS,
    qwen_tokenizer,
    r1_template,
    small_template,
    small_tokenizer,
)

from stepcredit.core.errors import UsageError
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.judges.thinkprm.prompt import (
    PROFILES,
    PromptBuilder,
    Switches,
    solution_text,
    stop_strings,
    user_message,
)

PROBLEM, STEPS = "What is 1 + 1 + 1?", ("1 + 1 = 2.\n\n", "## Step 2: 2 + 1\n= 3.")

# Made by encoding the text of thinkprm.md 4.1 and 4.2 with the Qwen2.5 tokenizer and the added tokens of
# R1-Distill-Qwen in one piece; the ids named in thinkprm.md 4.2 and 4.4 are among them.
GOLDEN = [
    *(151646, 151644, 2610, 525, 2661, 264, 6888, 3491, 323, 264, 10981, 3019, 14319, 29208, 6291, 1447),
    *(71111, 22079, 2533, 3838, 374, 220, 16, 488, 220, 16, 488, 220, 16, 1939, 58, 36842, 2533),
    *(8304, 220, 16, 25, 220, 16, 488, 220, 16, 284, 220, 17, 624),
    *(8304, 220, 17, 25, 220, 17, 488, 220, 16, 284, 220, 18, 382),
    *(19432, 323, 42565, 1817, 3019, 304, 279, 10981, 6291, 311, 8253, 3425, 1817, 3019, 374, 4396, 13),
    *(1416, 279, 6291, 374, 32143, 11, 1172, 10146, 279, 3897, 7354, 13),
    *(151645, 151648, 198, 10061, 594, 10146, 3019, 553, 3019, 25),
]


@pytest.fixture(scope="module")
def qwen():
    return qwen_tokenizer()


def built(tokenizer, switches, *, template=None) -> PromptBuilder:
    return PromptBuilder(tokenizer, template or small_template(), switches)


def ids_of(tokenizer, switches, *, steps=STEPS, problem=PROBLEM) -> list[int]:
    return built(tokenizer, switches).critique(problem, steps).tolist()


def test_the_trained_profile_gives_the_ids_of_the_training_text(qwen):
    got = PromptBuilder(qwen, r1_template(enable_thinking=True), PROFILES["trained"]).critique(PROBLEM, STEPS)
    assert got.tolist() == GOLDEN


def test_the_reference_profile_has_two_newlines_after_think_in_one_token(qwen):
    got = PromptBuilder(qwen, r1_template(enable_thinking=True), PROFILES["reference"]).critique(PROBLEM, STEPS)
    assert got.tolist() == [*GOLDEN[:-8], 271, *GOLDEN[-7:]]


def test_the_prompt_in_pieces_has_the_ids_of_the_prompt_in_one_piece(qwen):
    for switches in PROFILES.values():
        got = ids_of(qwen, switches)
        assert qwen.encode(qwen.decode(got)).tolist() == got


def test_every_profile_has_exactly_one_begin_token_and_two_only_where_asked(qwen):
    begin = qwen.id_of(BOS)
    for switches in PROFILES.values():
        assert ids_of(qwen, switches).count(begin) == 1
        twice = ids_of(qwen, replace(switches, bos=2))
        assert (twice[:2], twice.count(begin)) == ([begin] * 2, 2)


def test_a_template_that_begins_twice_still_gives_one_begin_token(qwen):
    template = ChatTemplate("{{ bos_token }}" + R1_TEMPLATE, BOS, EOS)
    assert PromptBuilder(qwen, template, Switches()).critique(PROBLEM, STEPS).tolist() == GOLDEN


def test_a_template_that_ends_at_the_role_is_gone_on_with(qwen):
    template = ChatTemplate(R1_TEMPLATE.replace("<think>\\n", ""), BOS, EOS)
    assert PromptBuilder(qwen, template, Switches()).critique(PROBLEM, STEPS).tolist() == GOLDEN


def test_the_answers_are_single_tokens_with_their_leading_space(qwen):
    assert built(qwen, Switches(label_case="lower")).answers.tolist() == [9834, 902]
    assert built(qwen, Switches(label_case="capital")).answers.tolist() == [7414, 2308]


def test_the_question_closes_the_think_block_only_where_asked(qwen):
    for close, text in ((True, "\n</think>\nIs the solution correct?"), (False, ".\n\nIs the solution correct?")):
        prompts = built(qwen, Switches(close_think=close))
        prompt = prompts.critique(PROBLEM, STEPS)
        got = prompts.answer(prompt, " Step 1: fine. \\boxed{correct}.\n")
        assert got[: len(prompt)].tolist() == prompt.tolist()
        assert qwen.decode(got).endswith(text)
        assert not qwen.decode(got).endswith(" ")
        assert (qwen.id_of("</think>") in got.tolist()) == close


def test_steps_are_one_line_each_with_or_without_their_number():
    steps = ["Step 7: a\n\nb", " c \n", ""]
    assert solution_text(steps) == "Step 1: a b\nStep 2: c\nStep 3:"
    assert solution_text(steps, step_prefix=False) == "Step 7: a b\nc\n"


def test_the_step_prefix_switch_reaches_the_prompt():
    tokenizer = small_tokenizer()
    assert "\n\n1 + 1 = 2.\n## Step 2: 2 + 1 = 3.\n\n" in tokenizer.decode(
        ids_of(tokenizer, Switches(step_prefix=False))
    )


def test_twelve_steps_stop_at_step_thirteen():
    assert stop_strings(12)[-1] == "Step 13:"
    assert [stop_strings(count)[-1] for count in (1, 9, 10, 99)] == ["Step 2:", "Step 10:", "Step 11:", "Step 100:"]


def test_placeholders_and_step_labels_in_the_problem_change_nothing_else():
    problem = "Put {solution} and {problem} after Step 99: $\\frac{1}{2}$"
    message = user_message(problem, ["a {problem}"])
    assert message == user_message("@", ["a {problem}"]).replace("@", problem)
    assert message.count("Step 1: a {problem}") == 1


@pytest.mark.parametrize("token", R1_TOKENS)
def test_special_tokens_in_problem_and_critique_are_plain_text(qwen, token):
    text = f"first {token}{token} then <th{token}ink>"
    prompts, special = built(qwen, Switches()), qwen.id_of(token)
    plain, hostile = prompts.critique("x", ["y"]), prompts.critique(text, [text])
    assert hostile.tolist().count(special) == plain.tolist().count(special)
    assert text in qwen.decode(hostile)
    answer = prompts.answer(plain, text)
    assert answer.tolist().count(special) == prompts.answer(plain, "z").tolist().count(special)
    assert text in qwen.decode(answer)


def test_a_template_without_the_role_tokens_is_refused():
    source = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(UsageError, match="trained on the R1-Distill template"):
        built(small_tokenizer(), Switches(), template=ChatTemplate(source, BOS, EOS))


def test_a_template_that_switches_thinking_off_is_refused():
    with pytest.raises(UsageError, match="is thinking switched off"):
        built(small_tokenizer(), Switches(), template=r1_template(enable_thinking=False))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (R1_TEMPLATE.replace("m['content']", "m['content'] + m['content']"), "once and unchanged"),
        (R1_TEMPLATE.replace("m['content']", "m['content'] | upper"), "once and unchanged"),
        (R1_TEMPLATE.replace("{{ bos_token }}", ""), "must begin with its begin-of-sequence token"),
    ],
)
def test_a_template_that_changes_the_message_or_has_no_begin_token_is_refused(source, reason):
    with pytest.raises(UsageError, match=reason):
        built(small_tokenizer(), Switches(), template=ChatTemplate(source, BOS, EOS))


def test_another_models_tokenizer_is_refused(qwen):
    template = ChatTemplate(R1_TEMPLATE, "<bos>", EOS)
    with pytest.raises(UsageError, match="'<bos>' should be one token, the tokenizer makes 3 of it"):
        PromptBuilder(qwen, template, Switches())


def test_the_fingerprint_follows_the_switches():
    tokenizer = small_tokenizer()
    assert len({built(tokenizer, switches).fingerprint for switches in PROFILES.values()}) == 2
