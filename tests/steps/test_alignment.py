"""Alignment: characters of tokens, exact for any bytes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import align, retokenise
from stepcredit.steps.alignment import characters

EDGES = [0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]


def slow(data: bytes) -> tuple[str, list[int]]:
    """Character of each byte, by asking Python for the next bad place again and again."""
    owner: list[int] = []
    count, at = 0, 0
    while at < len(data):
        try:
            good, bad = data[at:].decode(), 0
        except UnicodeDecodeError as error:
            good, bad = data[at : at + error.start].decode(), error.end - error.start
        for character in good:
            owner += [count] * len(character.encode())
            count += 1
        owner += [count] * bad
        count += bad > 0
        at = len(owner)
    return data.decode("utf-8", "replace"), owner


def test_a_token_inside_a_character_gets_that_character():
    text, starts = characters([b"a", "é".encode()[:1], "é".encode()[1:] + b"b", "😀".encode()])
    assert text == "aéb😀"
    assert starts.tolist() == [0, 1, 1, 3]


def test_characters_cut_at_the_end_are_one_replacement():
    text, starts = characters([b"a", b"\xf0", b"\x9f\x98"])
    assert (text, starts.tolist()) == ("a\ufffd", [0, 1, 1])


def test_a_real_replacement_character_is_not_confused_with_invalid_bytes():
    text, starts = characters(["\ufffd".encode(), b"\xff", b"x"])
    assert (text, starts.tolist()) == ("\ufffd\ufffdx", [0, 1, 2])


def test_tokens_without_bytes_start_at_the_next_character():
    assert characters([b"", b"ab", b"", b"c", b""])[1].tolist() == [0, 0, 2, 2, 3]
    assert characters([])[0] == ""


def test_every_run_of_edge_bytes_is_segmented_as_python_does():
    for data in itertools.product(EDGES, repeat=3):
        text, owner = slow(bytes(data))
        assert characters([bytes([byte]) for byte in data])[1].tolist() == owner
        assert len(text) == owner[-1] + 1


@given(st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)), max_size=20))
def test_any_bytes_agree_with_python(pieces: list[bytes]):
    text, owner = slow(b"".join(pieces))
    got, starts = characters(pieces)
    offsets = np.cumsum([0, *map(len, pieces)])[:-1].tolist()
    assert got == text
    assert starts.tolist() == [[*owner, len(text)][offset] for offset in offsets]
    assert starts.dtype == np.int32
    assert not starts.flags.writeable


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_goes_through_a_byte_level_tokenizer_unchanged(small: FileTokenizer, text: str):
    ids, back, starts = retokenise(text, small)
    assert back == text
    assert (np.diff(starts) >= 0).all()
    assert len(starts) == len(ids)


@given(st.lists(st.integers(0, 255)))
def test_any_sampled_ids_align(small: FileTokenizer, numbers: list[int]):
    ids = np.array(numbers, np.int32)
    text, starts = align(ids, small)
    assert text == small.decode(ids)
    for index in range(len(ids)):  # decoding token by token: what is whole before token t never changes
        before = small.decode(ids[:index]).rstrip("\ufffd")
        assert text.startswith(before)
        assert starts[index] >= len(before)


def test_word_level_tokens_start_at_their_space():
    words = FileTokenizer.from_words(["a", ";", "bc"])
    _, text, starts = retokenise("a ;  bc", words)
    assert (text, starts.tolist()) == ("a ; bc", [0, 1, 3])


@pytest.mark.data
@pytest.mark.parametrize("name", ["tokenizer_gpt2", "tokenizer_qwen2_5"])
def test_real_vocabularies_align(data, name):
    tokenizer = FileTokenizer.load(data / name)
    for text in ["cafe\u0301 naïve", "👩‍👩‍👧 family", "ひらがな漢字", "a\u0000b\r\n\t", "🇩🇪e\u0301\u0302", "x" * 50]:
        ids, back, starts = retokenise(text, tokenizer)
        assert align(ids, tokenizer)[0] == back == tokenizer.decode(ids)
        offsets = np.cumsum([0, *map(len, tokenizer.pieces(ids))])[:-1]
        assert starts.tolist() == [len(back.encode()[:o].decode("utf-8", "ignore")) for o in offsets.tolist()]
