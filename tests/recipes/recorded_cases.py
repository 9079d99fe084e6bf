"""Small files of recorded solutions, a byte-level tokenizer made on the spot, the command line called in process."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from stepcredit import cli
from stepcredit.report.progress import SilentTask

PROBLEM = "A box holds 3 rows of 4 apples and one row of 7 apples. How many apples does it hold in all?"
RIGHT = (
    "Three rows of 4 apples each hold 3 * 4 = 14 apples, as far as I can see it.\n\n"
    "Wait, that is wrong: I made a mistake, 3 * 4 is not 14, because 3 * 4 = 12.\n\n"
    "Together with the row of 7 apples the box holds 12 + 7 = 19 apples in all.\n</think>\n\n"
    "The three rows hold 12 apples, with 7 more that makes \\boxed{19}."
)
WRONG = (
    "Three rows of 4 apples each hold 3 * 4 = 12 apples, that much is certain here.\n\n"
    "Perhaps the colour of the leaves matters, green leaves grow beside trees there.\n\n"
    "Together with the row of 7 apples the box holds 12 + 7 = 20 apples in all.\n</think>\n\n"
    "Three rows of 4 apples hold 3 * 4 = 12 apples, and with the row of 7 it is 12 + 7 = \\boxed{20}."
)
OPEN = "Three rows of 4 apples each hold 12 apples.\n\nTogether with the row of 7 that is 20."


def row(completion: str, *, name: str | None = None, answer: str | None = "19", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"problem": PROBLEM, "answer": answer, "completion": completion, **more}
    return found if name is None else {"id": name, **found}


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return path


def byte_level(folder: Path) -> Path:
    """A tokenizer.json in which every byte is a token, in GPT-2's alphabet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    return folder


def call(*words: str | Path) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


class Heard:
    """A progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> SilentTask:
        return SilentTask()
