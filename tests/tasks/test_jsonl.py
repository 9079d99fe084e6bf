import gzip
import json
from pathlib import Path

import pytest
import zstandard

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import TaskSet
from stepcredit.tasks.jsonl import read_problems, read_responses

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ROW = {"problem": "1 + 1?", "gold": "2", "response": "It is 2.", "id": "a"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


class TestReading:
    def test_both_spellings(self, tmp_path):
        path = write(tmp_path / "set.jsonl", ROW, {"question": "1 + 1?", "answer": 2, "completion": "2", "model": "m"})
        first, second = read_responses(path)
        assert (first.id, first.response, first.model, first.line) == ("a", "It is 2.", "", 1)
        assert (second.id, second.response, second.model, second.line) == ("set:2", "2", "m", 2)
        assert first.problem == second.problem
        assert (first.problem.answer, first.problem.source) == ("2", "set")

    def test_both_spellings_in_one_line_must_agree(self, tmp_path):
        row = ROW | {"answer": 2, "completion": ROW["response"], "question": ROW["problem"]}
        assert read_responses(write(tmp_path / "set.jsonl", row)) == read_responses(write(tmp_path / "set.jsonl", ROW))

    def test_steps_stand_in_for_a_response(self, tmp_path):
        (response,) = read_responses(write(tmp_path / "s.jsonl", {"problem": "p", "gold": None, "steps": ["a", "b"]}))
        assert (response.response, response.steps, response.problem.answer) == ("a\n\nb", ("a", "b"), None)

    def test_unfinished_responses_were_cut(self, tmp_path):
        rows = [{**ROW, "id": i, "finished": finished} for i, finished in enumerate((True, False, None))]
        assert [r.finish for r in read_responses(write(tmp_path / "s.jsonl", *rows))] == ["stop", "length", "stop"]
        with pytest.raises(UsageError, match=r"s\.jsonl:1: `finished` must be true, false or null, got str 'no'"):
            read_responses(write(tmp_path / "s.jsonl", {**ROW, "finished": "no"}))

    def test_lists_of_answers_ask_for_all(self, tmp_path):
        rows = [{"problem": "p", "gold": ["$2$"]}, {"problem": "q", "gold": [1, "x"]}]
        assert [p.answer for p in read_problems(write(tmp_path / "s.jsonl", *rows)).all] == ["$2$", "1, x"]

    def test_packed_files_byte_order_marks_and_blank_lines(self, tmp_path):
        text = ("\ufeff" + json.dumps(ROW) + "\n\n").encode()
        (tmp_path / "a.jsonl").write_bytes(text)
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text))
        (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(text))
        names = ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst")
        assert {read_responses(tmp_path / name)[0].response for name in names} == {"It is 2."}

    def test_a_problem_set_draws_without_repeats(self, tmp_path):
        problems = read_problems(write(tmp_path / "s.jsonl", *({"problem": str(i), "gold": "1"} for i in range(20))))
        assert isinstance(problems, TaskSet)
        drawn = problems.problems(20, seed=1)
        assert sorted(drawn, key=lambda p: int(p.text)) == list(problems.all)
        assert drawn == problems.problems(20, seed=1) != problems.problems(20, seed=2)
        with pytest.raises(UsageError, match="s holds 20 problems, 21 were asked for"):
            problems.problems(21, seed=1)


class TestErrors:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{"probelm": "p", "gold": "1"}], r"s.jsonl:1: no key `problem` or `question`; rename `probelm`"),
            ([{"text": "p"}], r"s.jsonl:1: no key `problem` or `question`; the keys are `text`"),
            ([ROW, {**ROW, "id": "a"}], r"s.jsonl:2: id `a` stands in .*s.jsonl:1 too; ids must differ"),
            ([{"problem": "p", "solution": "1"}], r"no key `gold` or `answer`; .*write null if no reference"),
            ([{"problem": "p", "gold": {"a": 1}, "response": "r"}], "`gold` must be a text, a number, a list"),
            ([{"problem": "p", "gold": []}], "`gold` must be"),
            ([{"problem": "p", "gold": True}], "`gold` must be"),
            ([{"problem": "p", "gold": "1", "respond": "r"}], r"no key `response` or `completion`; rename `respond`"),
            ([{"problem": "p", "gold": "1", "response": None}], "`response` must be a text, got null"),
            ([{"problem": 3, "gold": "1", "response": "r"}], "`problem` must be a text, got int '3'"),
            ([{"problem": "p", "gold": "1", "completion": 7}], "`completion` must be a text, got int '7'"),
            ([{"problem": "p", "answer": True, "response": "r"}], "`answer` must be a text, a number, a list"),
            ([{"question": 3, "gold": "1", "response": "r"}], "`question` must be a text"),
            ([ROW | {"answer": "3"}], r"s.jsonl:1: `gold` is str '2' and `answer` is str '3'; .* so leave one out"),
            ([ROW | {"completion": "Other"}], r"s.jsonl:1: `response` is str .* and `completion` is str 'Other'"),
            ([ROW | {"question": "1 + 2?"}], "`problem` is .* and `question` is .*; both are read as the problem"),
            ([ROW | {"answer": None}], "`gold` is str '2' and `answer` is null"),
            ([{"prompt": "p", "gold": "1"}], "no key `problem` or `question`; rename `prompt` to `problem`"),
            ([{"problem": "p", "Ground Truth": "1"}], "rename `Ground Truth` to `answer`; write null"),
            ([{"problem": "p", "gold": "1", "output": "r"}], "rename `output` to `completion`"),
            ([{"problem": "p", "gold": "1", "respond": "r"}], "rename `respond` to `response`"),
            ([{"problem": "p", "gold": "1", "steps": "s"}], "`steps` must be a list of texts"),
            ([ROW, '{"problem": '], r"s.jsonl:2: not JSON .*one JSON object a line"),
            (['[{"problem": 1},'], "a JSON array must become one object a line"),
            (["[1]"], r"s.jsonl:1: a list, wanted one JSON object a line"),
            (["", " "], "s.jsonl: the file is empty"),
        ],
    )
    def test_one_line_with_place_and_mend(self, tmp_path, rows, message):
        with pytest.raises(UsageError, match=message) as caught:
            read_responses(write(tmp_path / "s.jsonl", *rows))
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

    def test_not_utf_8(self, tmp_path):
        path = tmp_path / "s.jsonl"
        path.write_bytes(json.dumps(ROW).encode() + b"\n" + '{"problem": "caf\xe9"}'.encode("latin-1"))
        with pytest.raises(UsageError, match=r"s.jsonl:2: byte 17 of the line is not UTF-8; save it as UTF-8"):
            read_responses(path)

    def test_files_that_are_none(self, tmp_path):
        with pytest.raises(UsageError, match="no such file"):
            read_problems(tmp_path / "no.jsonl")
        with pytest.raises(UsageError, match="this is a folder"):
            read_problems(tmp_path)
        for name in ("a.jsonl.gz", "a.jsonl.zst"):
            with pytest.raises(UsageError, match="cannot be unpacked"):
                read_problems(write(tmp_path / name, ROW))
        cut = gzip.compress(json.dumps(ROW).encode())[:-12]
        (tmp_path / "cut.jsonl.gz").write_bytes(cut)
        with pytest.raises(UsageError, match="cannot be unpacked"):
            read_problems(tmp_path / "cut.jsonl.gz")


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("long_cot_mip/gsm8k.jsonl.gz", 1156),
            ("long_cot_mip/math.jsonl.gz", 120),
            ("long_cot_mip/math_ill_posed.jsonl.gz", 96),
            ("long_cot_skyt1/aime24.jsonl.gz", 340),
            ("long_cot_skyt1/amc23.jsonl.gz", 170),
            ("long_cot_skyt1/math500.jsonl.gz", 237),
            ("short_cot/short_math500.jsonl.gz", 711),
            ("short_cot/short_aime24.jsonl.gz", 238),
            ("gsm8k_model_solutions/test.jsonl.gz", 2640),
        ],
    )
    def test_every_trace_file_is_read(self, name, count):
        assert len(read_responses(DATA / name)) == count

    def test_problem_sets_are_read(self):
        assert len(read_problems(DATA / "olympiadbench" / "test.jsonl").all) == 675
        assert len(read_problems(DATA / "math500" / "test.jsonl.gz").all) == 500
