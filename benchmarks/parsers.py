"""The judges' parsers on replies that other judges gave: share parsed, agreement with the upstream parse, each miss.

    python benchmarks/parsers.py [--data ../shared/data]

Verdict lines of MR-GSM8K (four judges) and RealCritic (o1-mini) are read by `judges.stated`, GenPRM's transcripts by
`judges.genprm.reward`. Upstream kept of MR-GSM8K only replies that name the right step, and gives for RealCritic only
whether the form was kept; nothing here says how good those judges are. Writes results/parsers.json and parsers.md; of
a miss, its id and why, never its text.
"""

import argparse
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepcredit.judges.genprm.execution import last_code
from stepcredit.judges.genprm.reward import read_verdict
from stepcredit.judges.stated import read_stated

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]


@dataclass(frozen=True)
class Read:
    """One reply: what we read and what upstream read, as texts; `None` where it was not read or is not known."""

    id: str
    who: str
    ours: str | None
    upstream: str | None
    readable: bool = True


def mr_gsm8k(row: Row) -> Read:
    """1-based step of the first error."""
    found = read_stated(row["response"])
    ours = None if found is None or found.first_error is None else str(found.first_error + 1)
    return Read(row["id"], row["judge"], ours, row["upstream_parsed"]["error_step"].split()[-1])


def realcritic(row: Row) -> Read:
    """Right or the 1-based step; upstream says only whether both lines stand there."""
    found = read_stated(row["response"])
    ours = None if found is None else "right" if found.first_error is None else str(found.first_error + 1)
    return Read(row["id"], f"{row['judge']}, {row['setting']}", ours, None, bool(row["format_ok"]))


def genprm(row: Row) -> Read:
    """Yes or No of the last output block; transcripts cut before it have none."""
    cut = bool(row.get("cut_before_output"))
    who = "GenPRM-7B, cut before its verdict" if cut else "GenPRM-7B"
    return Read(row["id"], who, read_verdict(row["response"]), row.get("verdict"), not cut)


SETS: dict[str, tuple[str, Callable[[Row], Read]]] = {
    "judge_mr_gsm8k": ("outputs.jsonl.gz", mr_gsm8k),
    "judge_realcritic": ("outputs.jsonl.gz", realcritic),
    "judge_genprm": ("transcripts.jsonl", genprm),
}


def rows_of(file: Path) -> list[Row]:
    """Lines of a plain or packed file."""
    data = file.read_bytes()
    text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def figures(found: Sequence[Read]) -> dict[str, Any]:
    """Counts of one judge's replies, with each miss."""
    parsed = [one for one in found if one.ours is not None]
    compared = [one for one in parsed if one.upstream is not None]
    misses = [asdict(one) for one in found if (one.ours is not None) != one.readable or _differs(one)]
    return {
        "replies": len(found),
        "readable": sum(one.readable for one in found),
        "parsed": len(parsed),
        "compared": len(compared),
        "agree": sum(one.ours == one.upstream for one in compared),
        "misses": misses,
    }


def _differs(one: Read) -> bool:
    return one.ours is not None and one.upstream is not None and one.ours != one.upstream


def main(arguments: Sequence[str] | None = None) -> None:
    """Read everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    options = parser.parse_args(arguments)
    result: dict[str, dict[str, Any]] = {}
    for name, (file, read) in SETS.items():
        found = [read(row) for row in rows_of(options.data / name / file)]
        result[name] = {
            who: figures([one for one in found if one.who == who]) for who in dict.fromkeys(one.who for one in found)
        }
    code = [last_code(row["response"]) for row in rows_of(options.data / "judge_genprm" / "transcripts.jsonl")]
    result["judge_genprm, code blocks"] = {
        "GenPRM-7B": {"replies": len(code), "parsed": sum(one is not None for one in code)}
    }
    (HERE / "results" / "parsers.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (HERE / "results" / "parsers.md").write_text(page(result), encoding="utf-8")


def page(result: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["# Parsers on recorded replies", "", "Made by `benchmarks/parsers.py`.", ""]
    lines += [
        "| set | judge | replies | readable | parsed | compared | agree |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = ("replies", "readable", "parsed", "compared", "agree")
    for name, judges in result.items():
        for who, found in judges.items():
            lines.append(f"| {name} | {who} | " + " | ".join(str(found.get(each, "–")) for each in names) + " |")
    lines += ["", "Readable: upstream says that the form was kept, or that a verdict stands there. Each miss:", ""]
    misses = [
        (who, one) for judges in result.values() for who, found in judges.items() for one in found.get("misses", ())
    ]
    lines += [f"- {who}, `{one['id']}`: ours {one['ours']}, upstream {one['upstream']}" for who, one in misses] or [
        "- none"
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
