"""FileTokenizer: the `tokenizers` library behind core's Tokenizer protocol; serves every arrow that reads tokens.

What the library lacks is `pieces`: the exact bytes of each token, from which `steps.alignment` finds characters.
They are worked out once a tokenizer, from the decoder that its file names (`_Rules`); `decode` joins them.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast, final

import numpy as np
from jaxtyping import Int32
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, UsageError
from stepcredit.store.files import FileWriter

_NAMES = ("tokenizer.json", "tokenizer.json.gz")


def byte_characters() -> dict[int, int]:
    """The byte-level alphabet: code point of the printable stand-in -> byte.

    Printable Latin-1 stands for itself; the other 68 bytes take U+0100 upwards, in order.

    Source: GPT-2's byte-level BPE (Radford et al. 2019). Differs: none.

    >>> table = byte_characters()
    >>> table[ord("a")] == ord("a"), table[ord("Ġ")] == ord(" "), len(table)
    (True, True, 256)
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {**{byte: byte for byte in printable}, **{256 + i: byte for i, byte in enumerate(others)}}


@final
@dataclass(frozen=True)
class _Rules:
    """How tokens become bytes.

    Args:
        byte_level: tokens are written in the byte-level alphabet.
        replace: texts to replace inside a token, in order.
        byte_fallback: a token `<0xAB>` is that byte.
        strip: spaces to take off the start of the whole text, at most.
        spaced: a space stands before each token (a file without decoder: tokens are joined by single spaces).
    """

    byte_level: bool = False
    replace: tuple[tuple[str, str], ...] = ()
    byte_fallback: bool = False
    strip: int = 0
    spaced: bool = False


@final
class FileTokenizer:
    """A tokenizer read from `tokenizer.json`: byte-level BPE, SentencePiece-like or word level.

    Build it with `load` or `from_words`.

    Args:
        tokenizer: the library's tokenizer; truncation and padding are switched off.
        eos: text of the token that ends a completion, `None` if there is none.

    Raises:
        UsageError: if the file's decoder is not one whose bytes can be told token by token, or `eos` is no token.

    Source: own. Differs: where the library drops information: with byte fallback it writes one U+FFFD a byte of an
    invalid run, here Python's rule (one for each maximal invalid part) holds for every kind of tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, eos: str | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._json = tokenizer.to_str()
        self._rules = _rules_of(json.loads(self._json))
        self._eos = eos
        self.eos_id: int | None = None if eos is None else self.id_of(eos)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer from a file or a folder.

        The end token is the `eos_token` of a `tokenizer_config.json` beside the file; without such a file, the only
        special token if there is exactly one; otherwise `None`.

        Args:
            path: `tokenizer.json`, `tokenizer.json.gz`, or a folder with either.

        Raises:
            UsageError: if there is no such file, or it is not a tokenizer.
        """
        file = _find(Path(path))
        try:
            data = file.read_bytes()
            tokenizer = Tokenizer.from_str((gzip.decompress(data) if file.suffix == ".gz" else data).decode())
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"cannot be read: {error}", item=str(file)) from error
        except Exception as error:  # the library raises bare Exception
            raise UsageError(
                f"is not a tokenizer.json ({error}); export one from the model's tokenizer", item=str(file)
            ) from error
        return cls(tokenizer, _eos_beside(file, tokenizer))

    @classmethod
    def from_words(cls, words: Sequence[str], eos: str = "<eos>") -> Self:
        """A word-level tokenizer: a text is words joined by single spaces, a word is a token.

        Ids count the words in order; `eos` comes last unless it is among them.

        Args:
            words: the vocabulary; distinct, without white space.
            eos: the word that ends a completion.

        Raises:
            UsageError: if a word occurs twice, is empty or holds white space.

        >>> tokenizer = FileTokenizer.from_words(["a", "b"])
        >>> tokenizer.encode("b a <eos>").tolist(), tokenizer.pieces([1, 0, 2]), tokenizer.eos_id
        ([1, 0, 2], [b'b', b' a', b' <eos>'], 2)
        """
        entries = [*words] if eos in words else [*words, eos]
        vocabulary = {word: index for index, word in enumerate(entries)}
        if len(vocabulary) != len(entries):
            twice = next(word for index, word in enumerate(entries) if word in entries[:index])
            raise UsageError(f"word {twice!r} occurs twice in the vocabulary")
        for word in entries:
            if word.split() != [word]:
                raise UsageError(f"word {word!r} is empty or holds white space; words are split at white space")
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=eos + eos))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens([AddedToken(eos, normalized=False)])
        return cls(tokenizer, eos)

    @property
    def fingerprint(self) -> str:
        """Digest of vocabulary, rules and end token."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest("tokenizer", self._json, self._eos)

    @property
    def added_ids(self) -> frozenset[int]:
        """Ids of tokens that are read by their text, whatever stands around it: roles, ends, tags."""
        return self._added

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_tokens_decoder())

    @cached_property
    def size(self) -> int:
        """V: one more than the largest id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def id_of(self, token: str) -> int:
        """Id of one token by its text in the vocabulary.

        Raises:
            UsageError: if the vocabulary has no such token.
        """
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise UsageError(f"the tokenizer has no token {token!r}")
        return found

    def encode(self, text: str) -> Int32[np.ndarray, " T"]:
        """[T] ids of the text; no special token is added, special tokens in the text are recognised.

        Some tokenizers normalise what they read (Qwen: NFC): the text of a rollout is `decode(ids)`, not `text`.

        Raises:
            UsageError: if the text holds lone surrogates, or a word that a word-level vocabulary lacks.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Int32[np.ndarray, " T"]]:
        """`encode` of many texts, on all cores that the library takes.

        Raises:
            UsageError: as `encode`, naming the text by its index.
        """
        for index, text in enumerate(texts):
            self._check(text, index)
        try:
            found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception
            raise UsageError(f"the tokenizer cannot encode this text: {error}") from error
        return [frozen(encoding.ids, np.int32) for encoding in found]

    def pieces(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> list[bytes]:
        """[T] the bytes each token stands for; joined and decoded as UTF-8 they are `decode(ids)`.

        Word-level: the first token is the word, later ones carry the space before it.

        Raises:
            EngineError: for an id outside the vocabulary.
        """
        numbers = np.asarray(ids, np.int64)
        if len(numbers) and numbers.view(np.uint64).max() >= self.size:  # a negative id is a large one
            bad = int(numbers[(numbers < 0) | (numbers >= self.size)][0])
            raise EngineError(f"token id {bad} is outside the tokenizer's 0..{self.size - 1}; is it another model's?")
        pieces: list[bytes | None] = self._table[numbers].tolist()
        if self._gaps and None in pieces:
            missing = int(numbers[pieces.index(None)])
            raise EngineError(f"token id {missing} has no token in the tokenizer's vocabulary")
        return _strip(cast("list[bytes]", pieces), self._rules.strip)

    def decode(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> str:
        """Text of the ids, special tokens included, invalid bytes as U+FFFD.

        Raises:
            EngineError: for an id outside the vocabulary.
        """
        return b"".join(self.pieces(ids)).decode("utf-8", "replace")

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `load` and `transformers` read."""
        target = FileWriter(Path(folder))
        target.write("tokenizer.json", self._json)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self._eos,
            "clean_up_tokenization_spaces": False,
        }
        target.write("tokenizer_config.json", json.dumps(config, indent=1))

    @cached_property
    def _table(self) -> np.ndarray:
        """[V] bytes of each id, `None` where the vocabulary has a gap."""
        table = np.full(self.size, None, np.object_)
        alphabet = byte_characters()
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            table[number] = _bytes_of(token, self._rules, alphabet)
        for number, added in self._tokenizer.get_added_tokens_decoder().items():
            table[number] = added.content.encode()
        if self._rules.spaced:
            table[:] = [None if piece is None else b" " + piece for piece in table]
        return table

    @cached_property
    def _gaps(self) -> bool:
        return None in self._table.tolist()

    @cached_property
    def _words(self) -> frozenset[str] | None:
        """The vocabulary of a word-level model, which has no answer to other words."""
        if not isinstance(self._tokenizer.model, models.WordLevel):
            return None
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        return None if self._tokenizer.model.unk_token in vocabulary else frozenset(vocabulary)

    def _check(self, text: str, index: int) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"text {index} holds a lone surrogate at character {error.start}; "
                "read the file as UTF-8 and replace what is invalid"
            ) from error
        if self._words is not None and (unknown := next((w for w in text.split() if w not in self._words), None)):
            raise UsageError(f"text {index} holds the word {unknown!r}, which the word-level vocabulary lacks")


def _bytes_of(token: str, rules: _Rules, alphabet: dict[int, int]) -> bytes:
    if rules.byte_level:
        codes = [alphabet.get(ord(character)) for character in token]
        known = [code for code in codes if code is not None]
        return bytes(known) if len(known) == len(codes) else token.encode()
    for old, new in rules.replace:
        token = token.replace(old, new)
    if rules.byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            return token.encode()
    return token.encode()


def _strip(pieces: list[bytes], spaces: int) -> list[bytes]:
    index = 0
    while spaces and index < len(pieces):
        if pieces[index].startswith(b" "):
            pieces[index] = pieces[index][1:]
            spaces -= 1
        elif pieces[index]:
            break
        else:
            index += 1
    return pieces


def _rules_of(file: dict[str, Any]) -> _Rules:
    decoder = file.get("decoder")
    if decoder is None:
        if "ByteLevel" in json.dumps(file.get("pre_tokenizer")):
            raise UsageError("the tokenizer file is byte-level but names no decoder; set its decoder to ByteLevel")
        return _Rules(spaced=True, strip=1)
    parts: list[dict[str, Any]] = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if [part["type"] for part in parts] == ["ByteLevel"]:
        return _Rules(byte_level=True)
    if [part["type"] for part in parts] == ["Metaspace"]:
        strip = 0 if parts[0].get("prepend_scheme", "always") == "never" else 1
        return _Rules(replace=((parts[0]["replacement"], " "),), strip=strip)
    return _sentencepiece(parts)


def _sentencepiece(parts: list[dict[str, Any]]) -> _Rules:
    """Rules of a decoder sequence as SentencePiece models have it: replace, byte fallback, fuse, strip."""
    replace: list[tuple[str, str]] = []
    byte_fallback, fused, strip = False, False, 0
    for part in parts:
        match part:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if not fused:
                replace.append((old, new))
            case {"type": "ByteFallback"} if not fused:
                byte_fallback = True
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0} if fused:
                strip += start
            case _:
                raise UsageError(
                    f"the bytes of single tokens cannot be told under the decoder {json.dumps(part)}; "
                    "byte-level, Metaspace, SentencePiece-like and word-level tokenizers can be used"
                )
    return _Rules(replace=tuple(replace), byte_fallback=byte_fallback, strip=strip)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError("no such file or folder; give a tokenizer.json or a folder that holds one", item=str(path))
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    raise UsageError(
        f"the folder holds neither {' nor '.join(_NAMES)}; save the model's tokenizer there", item=str(path)
    )


def _eos_beside(file: Path, tokenizer: Tokenizer) -> str | None:
    config = file.parent / "tokenizer_config.json"
    if not config.is_file():
        special = [added.content for added in tokenizer.get_added_tokens_decoder().values() if added.special]
        return special[0] if len(special) == 1 else None
    try:
        eos = json.loads(config.read_bytes()).get("eos_token")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"is not a JSON object: {error}", item=str(config)) from error
    text = eos.get("content") if isinstance(eos, dict) else eos
    if text is None or isinstance(text, str):
        return text
    raise UsageError(f"eos_token should be a text, got {text!r}", item=str(config))
