"""Bad input: each ends in one line that names the place and the mend, and in the exit code of DESIGN.md 6."""

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_cases import RIGHT, byte_level, call, row, write_rows
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from stepcredit.engines.tokenizer import FileTokenizer

Make = Callable[[Path], Path]


def wrong_keys(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", {"problem": "p", "gold": "1", "respnose": "r"})


def absent_gold(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", row(RIGHT), {"problem": "p", "response": "r"})


def duplicate_ids(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", row(RIGHT, name="a"), row(RIGHT, name="a"))


def empty_file(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl")


def not_utf8(folder: Path) -> Path:
    (folder / "x.jsonl").write_bytes(json.dumps(row("caf\u00e9"), ensure_ascii=False).encode("latin-1"))
    return folder / "x.jsonl"


def not_json(folder: Path) -> Path:
    (folder / "x.jsonl").write_text("problem,answer\n", encoding="utf-8")
    return folder / "x.jsonl"


def no_file(folder: Path) -> Path:
    return folder / "nowhere.jsonl"


def not_gzip(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl.gz", row(RIGHT))


def steps_elsewhere(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", row(RIGHT, steps=["Three rows", "of nothing"]))


FILES: dict[Make, str] = {
    wrong_keys: r"x\.jsonl:1: no key `response` or `completion`; rename `respnose`",
    absent_gold: r"x\.jsonl:2: no key `gold` or `answer`; .*write null if no reference answer is known",
    duplicate_ids: r"x\.jsonl:2: id `a` stands in .*x\.jsonl:1 too; ids must differ",
    empty_file: r"x\.jsonl: the file is empty; it needs one JSON object a line",
    not_utf8: r"x\.jsonl:1: byte \d+ of the line is not UTF-8; save it as UTF-8",
    not_json: r"x\.jsonl:1: not JSON .*; wanted: one JSON object a line",
    no_file: r"nowhere\.jsonl: no such file",
    not_gzip: r"x\.jsonl\.gz: cannot be unpacked .*; the name must tell the format",
    steps_elsewhere: r"x\.jsonl:1: step 1 of `steps` does not follow in the text of the line; let both agree",
}


def one_line(capsys: pytest.CaptureFixture[str], wanted: str) -> None:
    """Exactly one line on standard error speaks of an error, and no traceback."""
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert re.search(wanted, errors[0]), errors[0]
    assert "Traceback" not in said
    assert "this is a bug" not in said


@pytest.mark.parametrize("verb", ["judge", "run"])
@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_files_that_cannot_be_used(make: Make, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = make(tmp_path)
    words = ("judge", file) if verb == "judge" else ("run", "--input", file, "--until", "judge")
    assert call(*words, "--out", tmp_path / "run") == 2
    one_line(capsys, FILES[make])
    assert not (tmp_path / "run" / "summary.json").exists()


def words_only(folder: Path) -> Path:
    FileTokenizer.from_words(["Q", "14", ";"]).save(folder / "words")
    return folder / "words"


def lower_case(folder: Path) -> Path:
    """A tokenizer that gives another text back: a BERT-like one lowers letters."""
    tokenizer = Tokenizer.from_file(str(byte_level(folder / "lower") / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.save(str(folder / "lower" / "tokenizer.json"))
    return folder / "lower"


def unknown_words(folder: Path) -> Path:
    """A word-level tokenizer with an unknown token: it takes every text and gives none back."""
    tokenizer = Tokenizer(models.WordLevel({"Three": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    (folder / "unknown").mkdir()
    tokenizer.save(str(folder / "unknown" / "tokenizer.json"))
    return folder / "unknown"


def no_tokenizer(folder: Path) -> Path:
    return folder


def not_a_tokenizer(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def nowhere(folder: Path) -> Path:
    return folder / "nowhere"


TOKENIZERS: dict[Make, str] = {
    words_only: r"x\.jsonl:1: .*the word 'A', which the word-level vocabulary lacks; --tokenizer must name",
    lower_case: r"x\.jsonl:1: the tokenizer cannot represent the text: at character 0 'Three.*--tokenizer must name",
    unknown_words: r"x\.jsonl:1: the tokenizer cannot represent the text: at character 6 .*--tokenizer must name",
    no_tokenizer: r"the folder holds neither tokenizer\.json nor tokenizer\.json\.gz; save the model's tokenizer there",
    not_a_tokenizer: r"tokenizer\.json: is not a tokenizer\.json .*; export one from the model's tokenizer",
    nowhere: r"nowhere: no such file or folder; give a tokenizer\.json or a folder that holds one",
}


@pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)
def test_tokenizers_that_cannot_be_used(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    assert call("run", "--input", file, "--tokenizer", make(tmp_path), "--out", tmp_path / "run") == 2
    one_line(capsys, TOKENIZERS[make])


def test_credit_without_a_tokenizer_names_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    assert call("run", "--input", file, "--out", tmp_path / "run") == 2
    one_line(capsys, r"credit goes to tokens, and no tokenizer was named; give --tokenizer DIR .*or --until judge")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--set", "credit.alpah=2"), r"recorded\.toml: unknown key credit\.alpah; did you mean credit\.alpha\?"),
        (("--set", "judge.vots=2"), r"recorded\.toml: unknown key judge\.vots; did you mean judge\.votes\?"),
        (("--set", "credit"), r"--set takes section\.key=value, got 'credit'"),
        (("--set", "checker.mode=maths"), r"recorded\.toml: checker\.mode: .*'auto', 'math' or 'string'"),
        (("--set", "steps.splitter=paragraf"), r"unknown splitter 'paragraf'; did you mean 'paragraph'\?"),
        (("--set", "credit.scale=fixd"), r"scale = 'fixd' is unknown; did you mean 'fixed'\?"),
        (("--credit", "tpgrpo"), r"credit rule 'tpgrpo' is unknown; did you mean 'tp_grpo'\?"),
        (("--server", "http://localhost:1"), r"--server names a model, and judge markers asks none; give --judge cr"),
        (("--model", "m"), r"--model names a model, and judge markers asks none; give --judge critic or intrinsic"),
        (("--judge", "critic"), r"judge critic asks a model; give --server URL"),
        (
            ("--judge", "critic", "--server", "http://localhost:1"),
            r"credit rule tp_grpo reads labels, and judge critic gives scores; take --credit grpo_ps, or --judge mar",
        ),
        (
            ("--credit", "grpo_ps"),
            r"credit rule grpo_ps reads scores, and markers gives some steps none; take --credit",
        ),
        (("--recipe", "nowhere.toml"), r"nowhere.toml: no such recipe; `stepcredit recipes` lists those that ship"),
        (("--recipe", "demo"), r"demo.toml: "),
    ],
)
def test_choices_that_cannot_be_used(
    words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    tokenizer = byte_level(tmp_path / "tokenizer")
    assert call("run", "--input", file, "--tokenizer", tokenizer, "--out", tmp_path / "run", *words) == 2
    one_line(capsys, line)
    assert not (tmp_path / "run").exists()


def test_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    server = ("--judge", "critic", "--server", f"http://127.0.0.1:{port}/v1")
    quick = ("--set", "server.max_tries=1", "--set", "checker.mode=string")
    for model in ((), ("--model", "m")):
        assert call("judge", file, *server, *model, *quick, "--out", tmp_path / "run") == 3
        one_line(capsys, rf"http://127\.0\.0\.1:{port}/v1: no connection; is the server running\? start it, or give it")


def test_an_address_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    assert call("judge", file, "--judge", "critic", "--server", "localhost:8000", "--out", tmp_path / "run") == 2
    one_line(capsys, r"the server's address must be a URL like http://host:port/v1, got 'localhost:8000'")


def test_a_file_in_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    for out in (file, file / "run"):
        assert call("judge", file, "--out", out, "--set", "checker.mode=string") == 3
        one_line(capsys, r"x\.jsonl(/run)?: a file stands where a folder is needed; choose another folder with --out")


def test_no_permission_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, whom no mode stops: the system's answer is played."""
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert call("judge", file, "--out", tmp_path / "run", "--set", "checker.mode=string") == 3
    one_line(capsys, r"run: no permission to write here; choose another folder with --out")


def test_a_refused_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stepcredit.testing import Manners, ScriptedServer

    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with ScriptedServer(manners=Manners(key="right")) as server:
        words = ("--judge", "critic", "--server", server.url, "--model", "scripted", "--set", "checker.mode=string")
        assert call("judge", file, *words, "--out", tmp_path / "run") == 2
    one_line(capsys, "key")
