"""Logs of other trainers: TRL's completions (parquet or JSONL) and verl's rollouts (JSONL), as one kind of row."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from math import isnan
from pathlib import Path
from typing import Any, final

from stepcredit.adapters.logged.signals import BroughtSignals, brought_by, finite
from stepcredit.core.errors import MachineError, UsageError
from stepcredit.tasks.jsonl import read_objects

_TRL = ("step", "prompt", "completion", "advantage")
_VERL = ("input", "output", "score", "step")
_UID = re.compile(r"(?P<prompt>.+)_(?P<rollout>\d+)_\d+")
"""Key of verl's trainer since 0.9: prompt, rollout, output of it."""

_WRITTEN = {"True": 1.0, "False": 0.0}
"""What verl's older trainer makes of numpy's truth values."""

_ANSWERS = ("answer", "solution", "gts", "ground_truth")

_THOUGHT = ("reasoning_content", "thinking")
"""Where templates that parse a completion put what was thought before the content."""


@final
@dataclass(frozen=True)
class LoggedRollout:
    """One completion of a log.

    Args:
        step: optimiser step at which it was logged.
        prompt: what was asked: the text, or of a conversation the last user message.
        completion: what was written, without end tokens.
        reward: the number that the run paid, `None` if it gave none.
        answer: the reference answer, `None` if the log has none.
        advantage: what the run made of the reward, `None` if the log does not say.
        group: completions that were compared with one another share it.
        place: file and line (or row), for messages.
        brought: signals that the row brings beside these: log probabilities, values.
        asked: all that was asked, a conversation with each of its messages; tells prompts apart.
    """

    step: int
    prompt: str
    completion: str
    reward: float | None
    answer: str | None
    advantage: float | None
    group: str
    place: str
    brought: BroughtSignals = field(default=BroughtSignals(), compare=False)
    asked: str = field(default="", compare=False)


def read_log(
    path: str | Path, *, outcome: str | None = None, group_size: int | None = None
) -> tuple[LoggedRollout, ...]:
    """Read the log of a run; which kind it is stands in its columns.

    TRL (`log_completions=True`): `OUTPUT_DIR/completions/completions_STEP.parquet`, or the same rows as JSONL: `step`,
    `prompt` and `completion` (texts or messages), one column a reward function, columns of `log_extra`, `advantage`.
    Groups are neighbours in it; without `group_size` a run of equal prompts is one. TRL writes the batch that it last
    sampled, so that with `steps_per_generation` or `num_iterations` above 1 several steps write the same one: it is
    read once, at the first.

    verl (`trainer.rollout_data_dir`): `STEP.jsonl`: `input`, `output`, `gts`, `score`, `step`, and what the reward
    function or the trainer added. The trainer of verl 0.9 writes `uid` (PROMPT_ROLLOUT_OUTPUT), and groups are the
    prompts in it; a uid of another form is a prompt's own. Older ones balance the batch before they write it, so there
    groups are the equal inputs of a step.

    Args:
        path: a file, or a folder of such files.
        outcome: column with the outcome's number; `None` takes `score`, or TRL's only reward function.
        group_size: completions of each prompt, at least 2; checked.

    Returns:
        The rows, groups side by side, in the order of steps.

    Raises:
        UsageError: if there is no log, or its columns, groups or outcome cannot be told, or hold what they should not.
        MachineError: if a parquet file is to be read and pyarrow is not installed.

    Source: TRL 0.29.1 and 1.16, trl/trainer/grpo_trainer.py `log`; verl 0.9.1, verl/trainer/ppo/v1/trainer_base.py
    `_log_rollout_data` and verl/trainer/ppo/ray_trainer.py `_dump_generations`. Differs: none.
    """
    if group_size is not None and group_size < 2:
        raise UsageError(f"group_size must be at least 2 completions, compared with one another, got {group_size}")
    files = _files(Path(path))
    rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise UsageError("the log has no rows", item=str(path))
    place, first = rows[0]
    if set(_VERL) <= first.keys():
        read = [_verl(row, place, outcome or "score") for place, row in rows]
        return _by_prompt(read, _prompts(rows), group_size)
    if set(_TRL[:3]) <= first.keys():
        column = outcome or _only_reward(rows)
        return _by_place(_once([_trl(row, place, column) for place, row in rows]), group_size)
    wanted = f"TRL's ({', '.join(_TRL[:3])}, ...) or verl's ({', '.join(_VERL)}, ...)"
    raise UsageError(f"got columns {', '.join(sorted(first))}, wanted {wanted}", item=place)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError("there is no such file or folder", item=str(path))
    if path.is_file():
        return [path]
    found = sorted([*path.glob("*.parquet"), *path.glob("*.jsonl")], key=lambda file: (len(file.name), file.name))
    if not found:
        raise UsageError(
            "the folder has no .parquet or .jsonl file; TRL's are in OUTPUT_DIR/completions", item=str(path)
        )
    return found


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if file.suffix != ".parquet":
        yield from read_objects(file, bare_nan=True)
        return
    if find_spec("pyarrow") is None:
        raise MachineError("parquet files need pyarrow; install with: pip install 'stepcredit[datasets]'")
    parquet: Any = import_module("pyarrow.parquet")
    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise UsageError(f"is no parquet file: {error}", item=str(file)) from error
    for number, row in enumerate(rows):
        yield f"{file}:{number}", row


def _only_reward(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """TRL's only column of numbers beside its own; a row without a reward has null in it."""
    own = (*_TRL, *_ANSWERS, "outcome_score")
    columns = {name: None for _, row in rows for name, value in row.items() if isinstance(value, int | float)}
    found = [name for name in columns if name not in own]
    if len(found) == 1:
        return found[0]
    mend = "name it with --outcome (in Python: outcome=...)"
    if found:
        raise UsageError(f"which column is the outcome? {mend} among {', '.join(found)}", item=rows[0][0])
    others = {name: None for _, row in rows for name in row if name not in own}
    empty = [name for name in others if all(row.get(name) is None for _, row in rows)]
    told = f"every value of {', '.join(empty)} is null" if empty else "no column beside TRL's own holds a number"
    raise UsageError(f"which column is the outcome? {told}; {mend}", item=rows[0][0])


def _trl(row: Mapping[str, Any], place: str, outcome: str) -> LoggedRollout:
    return LoggedRollout(
        _step(row, place),
        _text(row, "prompt", place, asked=True),
        _text(row, "completion", place),
        _number(row, outcome, place),
        _answer(row),
        _number(row, "advantage", place) if "advantage" in row else None,
        "",
        place,
        brought_by(row, place),
        json.dumps(row["prompt"], sort_keys=True, default=str),
    )


def _verl(row: Mapping[str, Any], place: str, outcome: str) -> LoggedRollout:
    texts = (_text(row, "input", place, asked=True), _text(row, "output", place))
    score, answer = _number(row, outcome, place), _answer(row)
    return LoggedRollout(_step(row, place), *texts, score, answer, None, "", place, brought_by(row, place))


def _step(row: Mapping[str, Any], place: str) -> int:
    value = row.get("step")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"step must be a whole number, got {value!r}", item=place)
    return value


def _text(row: Mapping[str, Any], name: str, place: str, *, asked: bool = False) -> str:
    """A text, or messages: of a prompt the last user message, of a completion what the policy wrote."""
    value = row.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        messages: list[Mapping[str, Any]] = value
        role = "user" if asked else "assistant"
        said = [_said(m, name, place) for m in messages if m.get("role", role) == role]
        if said:
            return said[-1] if asked else "".join(said)
        raise UsageError(f"{name} has no message of role {role}", item=place)
    raise UsageError(f"{name} must be a text or a list of messages, got {type(value).__name__}", item=place)


def _said(message: Mapping[str, Any], name: str, place: str) -> str:
    """All that a message says: before its content what was thought, between think tags. Calls of tools are left out."""
    thought = next((message[key] for key in _THOUGHT if message.get(key)), None)
    content = _content(message.get("content"), name, place)
    return content if thought is None else f"<think>{_content(thought, name, place)}</think>{content}"


def _content(value: Any, name: str, place: str) -> str:
    """Of one message: its text, or the texts of its parts; null is none."""
    parts: list[Any] = value if isinstance(value, list) else [{"text": value}]
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(part, Mapping) or not isinstance(text, str | None):
            told = f"content of a message of {name} must be a text, or a list of parts with texts"
            raise UsageError(f"{told}, got {type(text).__name__} {str(text)[:40]!r}", item=place)
        texts.append(text or "")
    return "".join(texts)


def _number(row: Mapping[str, Any], name: str, place: str) -> float | None:
    if name not in row:
        raise UsageError(f"there is no column {name!r}; there are: {', '.join(sorted(row))}", item=place)
    value = _WRITTEN.get(row[name], row[name]) if isinstance(row[name], str) else row[name]
    if value is not None and not isinstance(value, int | float):
        raise UsageError(f"{name} must be a number or null, got {value!r}", item=place)
    number = None if value is None else finite(value, name, place)
    return None if number is None or isnan(number) else number


def _answer(row: Mapping[str, Any]) -> str | None:
    return next((str(row[name]) for name in _ANSWERS if row.get(name) is not None), None)


def _once(rows: Sequence[LoggedRollout]) -> list[LoggedRollout]:
    """TRL's rows without the steps that wrote the same batch as the step before them."""
    kept: list[LoggedRollout] = []
    before: list[tuple[object, ...]] = []
    for _, run in groupby(rows, key=lambda row: row.step):
        batch = list(run)
        told: list[tuple[object, ...]] = [(r.prompt, r.completion, r.reward, r.advantage) for r in batch]
        kept += [] if told == before else batch
        before = told
    return kept


def _by_place(rows: Sequence[LoggedRollout], group_size: int | None) -> tuple[LoggedRollout, ...]:
    """TRL: groups are neighbours."""
    runs = [list(run) for _, run in groupby(rows, key=lambda row: (row.step, row.asked))]
    size = group_size or len(runs[0])
    if any(len(run) % size for run in runs) or (group_size is None and any(len(run) != size for run in runs)):
        sizes = ", ".join(str(n) for n in sorted(Counter(len(run) for run in runs)))
        mend = "name --group-size (in Python: group_size), num_generations of the run, and read whole files"
        raise UsageError(
            f"runs of equal prompts have {sizes} rows, wanted groups of {size}; {mend}", item=rows[0].place
        )
    parts = [run[k : k + size] for run in runs for k in range(0, len(run), size)]
    return tuple(replace(row, group=f"{row.step}/{number}") for number, part in enumerate(parts) for row in part)


def _prompts(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """verl: what tells the prompt of each row: its part of the uid, or the input."""
    found: list[str] = []
    seen: set[tuple[object, ...]] = set()
    named: dict[object, bool] = {}
    for place, row in rows:
        if named.setdefault(row["step"], row.get("uid") is not None) != (row.get("uid") is not None):
            told = f"some rows of step {row['step']} have a uid and others none: its prompts cannot be told apart"
            raise UsageError(f"{told}; give the whole step, as one version of verl wrote it", item=place)
        uid = _UID.fullmatch(str(row.get("uid")))
        if uid is None:
            found.append(str(row["uid"] if named[row["step"]] else row["input"]))
            continue
        rollout = (row["step"], uid["prompt"], uid["rollout"])
        if rollout in seen:
            mend = "credit for rollouts of several turns is not read yet; keep the last output of each"
            raise UsageError(f"rollout {uid['rollout']} of a prompt has several outputs; {mend}", item=place)
        seen.add(rollout)
        found.append(uid["prompt"])
    return found


def _by_prompt(
    rows: Sequence[LoggedRollout], prompts: Sequence[str], group_size: int | None
) -> tuple[LoggedRollout, ...]:
    """verl: groups are the rows of one prompt in a step."""
    groups: dict[tuple[int, str], list[LoggedRollout]] = {}
    for row, prompt in zip(rows, prompts, strict=True):
        groups.setdefault((row.step, prompt), []).append(row)
    for (step, _), found in groups.items():
        if group_size is not None and len(found) != group_size:
            mend = (
                "a prompt that a step asks twice cannot be told apart; leave --group-size out to compare them together"
            )
            raise UsageError(
                f"step {step} has {len(found)} equal inputs, wanted {group_size}; {mend}", item=found[0].place
            )
    return tuple(
        replace(row, group=f"{step}/{number}")
        for number, ((step, _), found) in enumerate(groups.items())
        for row in found
    )
