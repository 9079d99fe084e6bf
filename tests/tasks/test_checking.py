import asyncio
import multiprocessing
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_rollouts import rollout_of

from stepcredit.core.errors import MachineError
from stepcredit.core.protocols import Checker
from stepcredit.core.records import Problem
from stepcredit.tasks import math_pool
from stepcredit.tasks.answers import Answer, boxes, read_answer
from stepcredit.tasks.checking import Grade, MathChecker
from stepcredit.tasks.equivalence import choice, number, same, tidy
from stepcredit.tasks.math_pool import MathPool

PROBLEM = Problem("p", "x + 1?", "x+1")
STRING = MathChecker(mode="string")


@pytest.fixture(scope="module")
def pool():
    with MathPool(timeout_s=10.0) as opened:
        yield opened


class ScriptedProcesses:
    """In place of pebble's pool: trials end when the test says so."""

    def __init__(self):
        self.begun: list[tuple[str, float]] = []
        self._trials: dict[str, Future[bool | None]] = {}

    def schedule(self, _function, *, args, timeout):
        self.begun.append((args[1], timeout))
        self._trials[args[1]] = Future()
        return self._trials[args[1]]

    def end(self, answer, result):
        trial = self._trials.pop(answer)
        if isinstance(result, BaseException):
            trial.set_exception(result)
        else:
            trial.set_result(result)

    def stop(self):
        pass

    def join(self):
        pass


class TestReadAnswer:
    @pytest.mark.parametrize(
        ("text", "answer", "form"),
        [
            (r"first \boxed{1}, then \boxed{\frac{a}{b_{2}}}.", r"\frac{a}{b_{2}}", "boxed"),
            (r"\boxed 7 eggs", "7", "boxed"),
            (r"\fbox{7}", "7", "boxed"),
            (r"\boxed{\{1,2\}}", r"\{1,2\}", "boxed"),
            (r"\boxed{3} but then \boxed{never closed", "3", "boxed"),
            ("1 + 2 = <<1+2=3>>3\n#### 3", "3", "marked"),
            ("so 26\nA: 26", "26", "marked"),
            (r"Therefore, the answer is $\frac{1}{2}$. Done 9.", r"\frac{1}{2}", "stated"),
            ("**Answer:** Harry slept **3 hours** more than 2 others.", "3 hours", "stated"),
            (r"Answer: the radius is \(\sqrt{5}\) meters", r"\sqrt{5}", "stated"),
            ("The final answer is: 12.5 cm.", "12.5 cm", "stated"),
            ("\n# Answer\n\n \\sqrt{53}\n", r"\sqrt{53}", "stated"),
            ("a\n\\[ x = \\frac{13}{15}. \\]", r"\frac{13}{15}", "formula"),
            ("That makes 3 of 1,234 apples.", "1,234", "number"),
            (r"<think>\boxed{1}</think> It is 2.", "2", "number"),
            (r"<think>\boxed{1}</think>", "1", "boxed"),
            ("<|begin_of_thought|>7<|end_of_thought|><|begin_of_solution|>so 8<|end_of_solution|>", "8", "number"),
        ],
    )
    def test_forms(self, text, answer, form):
        assert read_answer(text) == Answer(answer, form)

    @pytest.mark.parametrize(
        ("text", "letter"),
        [
            ("Between (A) and (C) it is (C)", "C"),
            ("Solution: Choice_D", "D"),
            ("the correct choice is B: the sun", "B"),
            ("Step 9\nD", "D"),
            ("Choice_A/B", "A/B"),
        ],
    )
    def test_letters(self, text, letter):
        assert read_answer(text, letters=True) == Answer(letter, "letter")

    def test_nothing_to_read(self):
        assert read_answer("I do not know") is None
        assert read_answer("It is 12", letters=True) is None
        assert boxes(r"\boxed{} \boxed{open") == []

    @given(st.text(alphabet="\\boxed{}$()[] answer is:#AB12.,*\n", max_size=80))
    def test_never_raises(self, text):
        read_answer(text)
        read_answer(text, letters=True)
        same(text or "0", text)


class TestSame:
    @pytest.mark.parametrize(
        ("reference", "answer"),
        [
            ("1,000", "1000"),
            ("1000", r"1{,}000 \text{ meters}"),
            ("11,\\! 111", "11111"),
            ("$18", "18.00"),
            (r"\frac12", "0.5"),
            (r"-\frac{3}{4}", "-3/4"),
            ("90^\\circ", "90"),
            (r"(3,\frac{\pi}{2})", r"\left(3, \dfrac{\pi}{2}\right)"),
            ("(B)", r"\textbf{(B)}"),
            ("C", "Choice C: the sun"),
            ("50", r"50\%"),
            ("0.5", "50%"),
            ("x^{2}+1", "x^2 + 1"),
            ("5", "x = 5"),
            ("11_2", "3_{10}"),
            ("4210_5", "4210"),
            (r"\text{Evelyn}", "evelyn"),
            ("11", "Tom could buy 11 more CDs"),
            ("3", "three boxes contain none"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\[8pt] 2 \end{pmatrix}"),
        ],
    )
    def test_equal(self, reference, answer):
        assert same(reference, answer) is True

    @pytest.mark.parametrize(
        ("reference", "answer"),
        [
            ("7", "8"),
            ("1/3", "0.333"),
            ("B", "C"),
            ("B", "A/B"),
            ("B", "12"),
            ("0.5", "5%"),
            ("4343_6", "4343_7"),
            ("Sunday", "Monday"),
            ("11", "Tom could buy 12 more CDs"),
        ],
    )
    def test_different(self, reference, answer):
        assert same(reference, answer) is False

    @pytest.mark.parametrize(("reference", "answer"), [("x+1", "1+x"), ("p-q", "q - p"), ("2,3", "3,2")])
    def test_left_open(self, reference, answer):
        assert same(reference, answer) is None

    @given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
    def test_whole_numbers_are_always_decided(self, left, right):
        assert same(str(left), str(right)) is (left == right)
        assert same(str(left), f"{left:,}") is True
        assert number(tidy(f"${left:,}$")) == left

    @pytest.mark.parametrize(
        ("reference", "answer", "verdict"),
        [
            ("7", "9" * 5000, False),
            ("9" * 5000, "7", False),
            ("9" * 5000, "+" + "9" * 5000, True),
            ("9" * 5000, "00" + "9" * 5000, True),
            ("9" * 5000, "-" + "9" * 5000, False),
            ("9" * 5000, "8" * 5000, False),
            ("7.5", "9" * 5000, False),
            ("7", "7." + "0" * 5000, None),
            ("1/3", "1/" + "9" * 5000, None),
            ("x", "9" * 5000, None),
            ("7", "so it is " + "9" * 5000, False),
            ("7_2", "1_" + "9" * 5000, None),
            ("7_2", "9" * 5000 + "_3", False),
        ],
    )
    def test_numbers_too_long_for_python(self, reference, answer, verdict):
        assert same(reference, answer) is verdict

    def test_choices(self):
        assert [choice(text) for text in ("b", "(C).", "D - the moon", "BC", "")] == ["B", "C", "D", None, None]


class TestStringMode:
    @pytest.mark.parametrize(
        ("text", "reference", "finish", "grade"),
        [
            (r"\boxed{2}", "2", "stop", Grade("right", "2")),
            (r"\boxed{3}", "2", "stop", Grade("wrong", "3")),
            (r"\boxed{2}", None, "stop", Grade("unscorable", None, "no reference")),
            (r"\boxed{2}", "2", "open", Grade("unscorable", None, "open completion")),
            ("so 2 and then", "2", "length", Grade("wrong", None, "cut before an answer")),
            (r"so \boxed{2} but wait", "2", "length", Grade("right", "2")),
            ("no idea", "2", "stop", Grade("wrong", None, "no answer")),
            ("", "2", "stop", Grade("wrong", None, "no answer")),
            (
                r"\boxed{1+x}",
                "x+1",
                "stop",
                Grade("unscorable", "1+x", "text and numbers cannot decide; math mode can"),
            ),
        ],
    )
    def test_three_values_with_reasons(self, text, reference, finish, grade):
        assert STRING.grade_now(text, reference, finish=finish) == grade

    def test_what_it_cannot_decide_is_not_wrong(self):
        grade = STRING.grade_now(r"\boxed{1+x}", "x+1")
        assert grade == Grade("unscorable", "1+x", "text and numbers cannot decide; math mode can")

    def test_cut_texts_can_be_left_out_instead(self):
        checker = MathChecker(mode="string", cut="unscorable")
        assert checker.grade_now("so 2 and", "2", finish="length").status == "unscorable"
        assert checker.fingerprint != STRING.fingerprint


class TestMathMode:
    async def test_a_checker_of_rollouts(self, pool):
        checker: Checker = MathChecker(pool)
        outcomes = await asyncio.gather(
            *(checker.check(rollout_of(PROBLEM, rf"so \boxed{{{answer}}}")) for answer in ("1+x", "x-1", "x+1"))
        )
        assert [outcome.status for outcome in outcomes] == ["right", "wrong", "right"]
        assert [outcome.answer for outcome in outcomes] == ["1+x", "x-1", "x+1"]
        unknown = await checker.check(rollout_of(replace(PROBLEM, answer=None), "2"))
        assert (unknown.status, unknown.reward, unknown.reason) == ("unscorable", None, "no reference")

    @pytest.mark.parametrize(
        ("reference", "answer", "status"),
        [
            (r"2\sqrt{3}", r"\sqrt{12}", "right"),
            (r"\frac{639}{40}", r"15\frac{39}{40}", "right"),
            ("1, 2", r"\{2, 1\}", "right"),
            ("1, 2", r"1 \text{ and } 2", "right"),
            ("(1, 2)", "(2, 1)", "wrong"),
            (r"(2,\infty)", r"[2,\infty)", "wrong"),
            ("7", "x", "wrong"),
            ("1 < x < 2", "(1,2)", "right"),
            (r"6-5i", r"-5i + 6", "right"),
        ],
    )
    def test_expressions(self, pool, reference, answer, status):
        assert MathChecker(pool).grade_now(rf"\boxed{{{answer}}}", reference).status == status

    def test_works_off_the_main_thread(self, pool):
        grades: list[Grade] = []
        thread = threading.Thread(target=lambda: grades.append(MathChecker(pool).grade_now(r"\boxed{1+x}", "x+1")))
        thread.start()
        thread.join()
        assert grades == [Grade("right", "1+x")]

    @pytest.mark.parametrize("answer", ["????", "…", r"\$?"])
    def test_an_answer_without_ink_is_wrong_and_says_so_in_both_modes(self, pool, answer):
        for checker in (MathChecker(pool), STRING):
            grade = checker.grade_now(rf"\boxed{{{answer}}}", r"\frac{1}{2}+x")
            assert grade == Grade("wrong", answer, "answer not readable")

    def test_what_math_verify_cannot_read_is_wrong_or_unscorable_with_the_reason(self, pool):
        checker = MathChecker(pool)
        assert checker.grade_now(r"\boxed{)+(}", "x+1") == Grade("wrong", ")+(", "answer not readable")
        assert checker.grade_now(r"\boxed{x+1}", "").reason == "math-verify cannot read the reference"
        assert checker.grade_now(r"\boxed{x+2}", "x+1") == Grade("wrong", "x+2")

    def test_a_given_pool_is_left_running(self, pool):
        MathChecker(pool).close()
        assert MathChecker(pool).grade_now(r"\boxed{1+x}", "x+1").status == "right"

    def test_a_timeout_is_unscorable_and_no_process_stays(self):
        before = set(multiprocessing.active_children())
        with MathPool(timeout_s=1.0, retry_timeout_s=1.5) as small:
            checker = MathChecker(small)
            grade = checker.grade_now(r"\boxed{9^{9^{9^{9}}} + x}", "x+1")
            assert grade == Grade("unscorable", "9^{9^{9^{9}}} + x", "timeout")
            assert checker.grade_now(r"\boxed{1+x}", "x+1").status == "right"
        assert set(multiprocessing.active_children()) <= before

    def test_what_took_too_long_is_tried_once_more_alone_and_longer(self, monkeypatch):
        """`a` and `c` time out; each is tried again when nothing else runs, and `d` waits for that."""
        processes = ScriptedProcesses()
        monkeypatch.setattr(MathPool, "_start", lambda self: processes)
        with MathPool(timeout_s=5.0, retry_timeout_s=60.0) as pool:
            a, b, c = (pool.submit("1", name) for name in "abc")
            processes.end("a", TimeoutError())
            assert processes.begun == [("a", 5.0), ("b", 5.0), ("c", 5.0)]
            processes.end("b", False)
            processes.end("c", TimeoutError())
            assert processes.begun[3:] == [("a", 60.0)]
            d = pool.submit("1", "d")
            assert len(processes.begun) == 4
            processes.end("a", True)
            assert processes.begun[4:] == [("d", 5.0)]
            processes.end("d", None)
            processes.end("c", TimeoutError())
            assert processes.begun[5:] == [("c", 60.0)]
            assert (a.result(0), b.result(0), d.result(0)) == (True, False, None)
            assert isinstance(c.exception(0), TimeoutError)

    def test_a_second_try_can_be_cancelled_closed_and_left_out(self, monkeypatch):
        processes = ScriptedProcesses()
        monkeypatch.setattr(MathPool, "_start", lambda self: processes)
        with MathPool(retry_timeout_s=60.0) as pool:
            a, b, c = (pool.submit("1", name) for name in "abc")
            for name in "abc":
                processes.end(name, TimeoutError())
            a.cancel()
            assert processes.begun[3:] == [("a", 60.0), ("b", 60.0)]
        assert c.cancelled()
        processes.end("b", TimeoutError())
        assert isinstance(b.exception(0), TimeoutError)
        with MathPool(retry_timeout_s=0) as pool:
            once = pool.submit("1", "once")
            processes.end("once", TimeoutError())
            assert isinstance(once.exception(0), TimeoutError)

    def test_without_the_extra_the_mend_is_named(self, monkeypatch):
        monkeypatch.setattr(math_pool.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MachineError, match=r"math-verify and pebble missing: pip install 'stepcredit\[math\]'"):
            MathChecker()
        assert MathChecker(mode="string").grade_now(r"\boxed{2}", "2").status == "right"

    def test_failures_of_an_item_have_names(self):
        assert math_pool.failure_of(MemoryError()) == "memory limit"
        assert math_pool.failure_of(RecursionError()) == "comparison failed: RecursionError"
