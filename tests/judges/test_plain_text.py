"""Special tokens in what people and models wrote do nothing, and everything else is encoded as always."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent / "thinkprm"))

from thinkprm_parts import R1_TOKENS, qwen_tokenizer, small_tokenizer

from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.plain_text import PlainText


@pytest.mark.data
@pytest.mark.parametrize(
    "text",
    [
        "if a < b > c then |x| <div> é\n\n 12.5 \\boxed{7} <| |>",
        "f[i] = (i) + {x} for 'a' in \"b\"; <td>1</td> (x) $x$ [0]",
    ],
)
def test_text_without_special_tokens_is_encoded_as_always(text):
    qwen = qwen_tokenizer()
    assert PlainText(qwen).ids(text).tolist() == qwen.encode(text).tolist()


@pytest.mark.data
def test_the_special_tokens_of_the_real_tokenizer_are_those_that_were_added():
    assert set(PlainText(qwen_tokenizer()).markers.values()) == set(R1_TOKENS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*R1_TOKENS, "<", "think>", "<th", "ink>", "a ", "｜", ">"]), max_size=8))
def test_no_mixture_makes_a_special_token(parts):
    tokenizer = small_tokenizer()
    special = {tokenizer.id_of(token) for token in R1_TOKENS}
    ids = PlainText(tokenizer).ids("".join(parts)).tolist()
    assert tokenizer.decode(ids) == "".join(parts)
    assert not special & set(ids)
    assert PlainText(tokenizer).count("".join(parts)) == len(ids)


def test_a_leak_is_a_special_token_spelt_out_whatever_family_it_is_of():
    plain = PlainText(small_tokenizer())
    assert plain.leaks("the step is right<｜User｜>And the next")
    assert plain.leaks("done<|im_end|>\n<|im_start|>user")
    assert not plain.leaks("if |x| < 2 and x <| y |> z then <b>right</b>")


def test_words_that_a_tokenizer_reads_whole_are_no_special_tokens():
    tokenizer = FileTokenizer.from_words(["so", "4"])
    assert PlainText(tokenizer).markers == {2: "<eos>"}
    assert small_tokenizer().id_of(" Yes") not in PlainText(small_tokenizer()).markers
