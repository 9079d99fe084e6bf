"""What GenPRM left of a step, as a rationale: analysis, code, what running it really gave, and the verdict."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from stepcredit.core.rationales import Passage, Rationale
from stepcredit.judges.genprm.execution import CodeBlock, all_code, code_places
from stepcredit.judges.genprm.records import Part, Status, StepRecord

DROPPED = "dropped from the dialogue"
IMAGINED = "not run: what follows is what the model imagines"


def critique_of_step(record: StepRecord, *, number: int) -> Rationale:
    r"""One step in one pass; what it lost on the way stands at the end.

    Args:
        record: of the step.
        number: of the pass, from 0.

    >>> from stepcredit.judges.genprm.records import Part
    >>> opened, wrote = Part("forced", "Let's use python:\n```python\n"), Part("written", "print(1 + 1)\n```\n")
    >>> ran = CodeBlock("print(1 + 1)", "2", "ok", 0.1)
    >>> record = StepRecord(3, 0.9, 0.9, 0.1, "Yes", parts=(opened, wrote, Part("feedback", "[2]")), blocks=(ran,))
    >>> told = critique_of_step(record, number=0)
    >>> [(part.kind, part.text) for part in told.passages]
    [('forced', "Let's use python:\n"), ('code', 'print(1 + 1)'), ('output', '2')]
    >>> told.verdict
    'Yes: probability of Yes 0.900, of No 0.100'
    """
    passages = tuple(Passage(part.kind, part.text, record.index, part.status) for part in _passages(record))
    ended = ", ".join(status.replace("_", " ") for status in record.statuses)
    scores = (record.reward,)
    return Rationale(f"pass {number + 1}", record.index, scores, passages, _verdict(record), ended)


def _passages(record: StepRecord) -> Iterator[Passage]:
    """Its texts in order, then what was dropped; what was run is the blocks of its record, one a `feedback` part."""
    ran = iter(record.blocks)
    imagined = IMAGINED if any(block.status == "imagined" for block in record.blocks) else ""
    for parts, how in ((record.parts, imagined), (record.dropped, DROPPED)):
        for printed, run in groupby(parts, lambda part: part.kind == "feedback"):
            if printed:
                for part in run:
                    yield _output(next(ran, None), part.text)
            else:
                yield from _told(list(run), how, everywhere=how is DROPPED)
    for block in ran:
        if block.status == "refused":
            yield _output(block, "")


def _told(parts: Sequence[Part], how: str, *, everywhere: bool) -> Iterator[Passage]:
    """What the model and we wrote, with the code apart; a fence may begin in one part and end in another.

    `how` is said of the code, and `everywhere` of all else too.
    """
    told = how if everywhere else ""
    text = "".join(part.text for part in parts)
    fences = code_places(text)
    codes = dict(zip([first for first, _ in fences], all_code(text), strict=True))
    start = 0
    for part in parts:
        end = start + len(part.text)
        here = start
        for first, last in fences:
            if here < end and first < end and last > here:
                yield from _prose(part, text[here:first], told)
                if first >= start:
                    yield Passage("code", codes[first], status=how)
                here = last
        yield from _prose(part, text[here:end], told)
        start = end


def _prose(part: Part, text: str, how: str) -> Iterator[Passage]:
    if text.strip():
        yield Passage("written" if part.kind == "written" else "forced", text, status=how)


def _output(block: CodeBlock | None, told: str) -> Passage:
    """What came of a block: what the model was told of its run, or why there was none."""
    if block is None:
        return Passage("output", told)
    return Passage("output", block.feedback, status=block.status.replace("_", " "))


def _verdict(record: StepRecord) -> str:
    if record.verdict is None:
        return ""
    if record.p_yes_raw is None or record.p_no_raw is None:
        return record.verdict
    bound = ", a bound" if Status.TRUNCATED in record.statuses else ""
    return f"{record.verdict}: probability of Yes {record.p_yes_raw:.3f}, of No {record.p_no_raw:.3f}{bound}"
