"""FileTokenizer: bytes of tokens for every kind of decoder, files, failures."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from stepcredit.core.errors import EngineError, UsageError
from stepcredit.engines.tokenizer import FileTokenizer

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def byte_level() -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    raw.train_from_iterator(["the answer is 12, naïve 😀"] * 9, trainer)
    return raw


def sentencepiece(**decoder: int) -> Tokenizer:
    pieces = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "▁a": 257, "b": 258, "a": 259, "<s>": 260}
    raw = Tokenizer(models.BPE(pieces, [("▁", "a")], byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", decoder.get("start", 1), decoder.get("stop", 0))]
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return raw


@pytest.fixture(scope="module")
def plain() -> FileTokenizer:
    return FileTokenizer(byte_level(), "<|end|>")


@given(TEXT)
def test_byte_level_text_comes_back(plain: FileTokenizer, text: str):
    ids = plain.encode(text)
    assert plain.decode(ids) == text
    assert b"".join(plain.pieces(ids)).decode() == text


@given(st.lists(st.integers(0, 255)))
def test_byte_level_ids_decode_as_the_library_does(plain: FileTokenizer, numbers: list[int]):
    assert plain.decode(numbers) == plain._tokenizer.decode(numbers, skip_special_tokens=False)


def test_special_and_added_tokens_are_their_text():
    raw = byte_level()
    raw.add_tokens(["é x", "▁｜odd｜"])
    tokenizer = FileTokenizer(raw, "<|end|>")
    text = "a<|end|>é x▁｜odd｜b"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.pieces([tokenizer.id_of("é x")]) == ["é x".encode()]
    assert (tokenizer.encode("a<|end|>")[-1], tokenizer.eos_id) == (0, 0)


def test_batches_equal_single_texts(plain: FileTokenizer):
    texts = ["the answer", "", "😀 12"]
    assert [ids.tolist() for ids in plain.encode_batch(texts)] == [plain.encode(text).tolist() for text in texts]


def test_truncation_and_padding_of_the_file_are_switched_off():
    raw = byte_level()
    raw.enable_truncation(2)
    raw.enable_padding(length=9)
    assert FileTokenizer(raw).decode(FileTokenizer(raw).encode("the answer is")) == "the answer is"


def test_normalised_text_is_the_decoded_text():
    raw = byte_level()
    raw.normalizer = normalizers.NFC()
    tokenizer = FileTokenizer(raw)
    assert tokenizer.decode(tokenizer.encode("cafe\u0301")) == "caf\u00e9"


def test_sentencepiece_strips_one_space_and_falls_back_to_bytes():
    tokenizer = FileTokenizer(sentencepiece())
    for text in ["a b", " a", "a é😀", ""]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text == tokenizer._tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    assert tokenizer.pieces(tokenizer.encode("aé")) == [b"a", b"\xc3", b"\xa9"]
    assert tokenizer.decode([0xE2, 0x82]) == "\ufffd"


def test_metaspace():
    raw = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1}, unk_token="▁a"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    tokenizer = FileTokenizer(raw)
    assert tokenizer.pieces(tokenizer.encode("a b a")) == [b"a", b" b", b" a"]
    assert tokenizer.decode([0, 1]) == raw.decode([0, 1])


def test_words():
    tokenizer = FileTokenizer.from_words(["a", "b", ";"])
    assert tokenizer.pieces(tokenizer.encode("b ; a <eos>")) == [b"b", b" ;", b" a", b" <eos>"]
    assert tokenizer.decode([1, 3]) == "b <eos>"
    assert (tokenizer.size, tokenizer.eos_id, tokenizer.id_of(";")) == (4, 3, 2)
    assert FileTokenizer.from_words(["<eos>", "a"]).eos_id == 0


def test_save_and_load(tmp_path: Path, plain: FileTokenizer):
    for tokenizer in (FileTokenizer.from_words(["a", "b"]), plain):
        tokenizer.save(tmp_path / "t")
        again = FileTokenizer.load(tmp_path / "t")
        assert (again.fingerprint, again.eos_id) == (tokenizer.fingerprint, tokenizer.eos_id)
        (tmp_path / "t.json.gz").write_bytes(gzip.compress((tmp_path / "t" / "tokenizer.json").read_bytes()))
        assert FileTokenizer.load(tmp_path / "t.json.gz").fingerprint == tokenizer.fingerprint
    assert FileTokenizer.from_words(["b", "a"]).fingerprint != FileTokenizer.from_words(["a", "b"]).fingerprint


def test_a_saved_tokenizer_loads_in_transformers(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    FileTokenizer.from_words(["a", "b"]).save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (other("b a <eos>")["input_ids"], other.eos_token_id) == ([1, 0, 2], 2)


def test_the_end_token_is_the_configured_or_the_only_special_one(tmp_path: Path):
    raw = byte_level()
    raw.save(str(tmp_path / "tokenizer.json"))
    assert FileTokenizer.load(tmp_path).eos_id == 0
    raw.add_special_tokens([AddedToken("<|more|>")])
    raw.save(str(tmp_path / "tokenizer.json"))
    assert FileTokenizer.load(tmp_path).eos_id is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|more|>"}}))
    assert FileTokenizer.load(tmp_path).eos_id == raw.token_to_id("<|more|>")


def test_ids_outside_the_vocabulary_are_named(plain: FileTokenizer):
    with pytest.raises(EngineError, match=r"token id 999 is outside the tokenizer's 0\.\.278"):
        plain.pieces([1, 999])
    with pytest.raises(EngineError, match="token id -1 is outside"):
        plain.decode([-1])


def test_text_that_cannot_be_encoded_is_named():
    words = FileTokenizer.from_words(["a", "b"])
    with pytest.raises(UsageError, match="text 1 holds the word 'c', which the word-level vocabulary lacks"):
        words.encode_batch(["a b", "a c"])
    with pytest.raises(UsageError, match="text 0 holds a lone surrogate at character 1"):
        words.encode("a\ud800")
    with pytest.raises(UsageError, match="the tokenizer has no token 'z'"):
        words.id_of("z")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["a", "a"], "word 'a' occurs twice"), (["a b"], "word 'a b' is empty or holds white space"), ([""], "word ''")],
)
def test_bad_vocabularies_are_named(words: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        FileTokenizer.from_words(words)


def test_bad_files_are_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no such file or folder; give a tokenizer.json or a folder that holds one"):
        FileTokenizer.load(tmp_path / "none")
    with pytest.raises(UsageError, match=r"the folder holds neither tokenizer.json nor tokenizer.json.gz"):
        FileTokenizer.load(tmp_path)
    for name, data in {"tokenizer.json": b"{}", "x.gz": b"no gzip", "y.json": b"\xff"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=f"{name}: "):
            FileTokenizer.load(tmp_path / name)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for data in (b"[]", b"{", b'{"eos_token": 3}'):
        (tmp_path / "tokenizer_config.json").write_bytes(data)
        with pytest.raises(UsageError, match=r"tokenizer_config.json: "):
            FileTokenizer.load(tmp_path)


def test_decoders_without_bytes_for_single_tokens_are_refused():
    raw = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    raw.decoder = decoders.WordPiece()
    with pytest.raises(UsageError, match=r'cannot be told under the decoder \{"type": "WordPiece"'):
        FileTokenizer(raw)
    with pytest.raises(UsageError, match="cannot be told"):
        FileTokenizer(sentencepiece(stop=1))
    raw = byte_level()
    raw.decoder = None
    with pytest.raises(UsageError, match="byte-level but names no decoder"):
        FileTokenizer(raw)


@pytest.mark.data
@pytest.mark.parametrize("name", ["tokenizer_gpt2", "tokenizer_qwen2_5"])
def test_recorded_vectors(name: str):
    if not DATA.is_dir():
        pytest.skip("no recorded data beside the repository")
    tokenizer = FileTokenizer.load(DATA / name)
    rows = [json.loads(line) for line in (DATA / name / "vectors.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 47
    for row in rows:
        ids = tokenizer.encode(row["text"])
        assert ids.tolist() == row["ids"]
        assert tokenizer.decode(ids) == tokenizer._tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    for size in (1, 3):  # all single tokens, and tokens side by side in vocabulary order
        numbers = list(range(0, tokenizer.size - size, 97))
        for number in numbers:
            ids = list(range(number, number + size))
            assert tokenizer.decode(ids) == tokenizer._tokenizer.decode(ids, skip_special_tokens=False)


def test_a_hole_in_the_vocabulary_is_named():
    raw = Tokenizer(models.WordLevel({"a": 0, "b": 5}, unk_token="a"))
    with pytest.raises(EngineError, match="token id 3 has no token in the tokenizer's vocabulary"):
        FileTokenizer(raw).pieces([0, 3])
