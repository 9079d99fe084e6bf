from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_rollouts import rollout_of

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Checker, TaskSet
from stepcredit.core.records import Problem
from stepcredit.tasks import chain_world, reflection_world
from stepcredit.tasks.chain_world import ChainWorld
from stepcredit.tasks.reflection_world import WORLD_A, WORLD_D, WORLD_E, ReflectionWorld
from stepcredit.tasks.world_checker import WorldChecker
from stepcredit.tasks.world_statistics import WorldStatistics, statistics
from stepcredit.tasks.world_text import MODULUS, apply, completion_of, final_value, parse, read_prompt
from stepcredit.tasks.world_truth import Demonstration, copied, structure, true_values, truth

CHAIN = ChainWorld()
WORLDS = (WORLD_E, WORLD_A, WORLD_D, CHAIN)

# 14 / 15 = 10 and 10 * 10 = 15 in Z_17; the first guess, 4, multiplies back to 9.
PROBLEM = Problem("p", "Q 14 ; Step1 /15 ; Step2 *10 ?", "15")
TAKEN_BACK = (
    "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ; check 10 *15 14 ok ; Step2 10 *10 15"
    " </think> answer ; Step1 10 ; Step2 15 <eos>"
)
KEPT = "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step2 4 *10 6 </think> answer ; Step1 4 ; Step2 6 <eos>"


def demonstrated(world: ReflectionWorld | ChainWorld, demonstrations: tuple[Demonstration, ...]) -> WorldStatistics:
    rollouts = [rollout_of(d.problem, d.text, "length" if cut(world, d) else "stop") for d in demonstrations]
    return statistics([world.checker.outcome(rollout) for rollout in rollouts], guessed=world.guessed)


def cut(world: ReflectionWorld | ChainWorld, demonstration: Demonstration) -> bool:
    return len(demonstration.text.split()) > world.max_tokens


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
class TestEveryWorld:
    def test_is_a_task_set_with_a_checker(self, world):
        checker: Checker = world.checker
        assert isinstance(world, TaskSet)
        assert checker.fingerprint

    def test_texts_use_the_vocabulary_only(self, world):
        for demonstration in world.demonstrations(50, seed=1):
            assert {*demonstration.problem.text.split(), *demonstration.text.split()} <= set(world.words)

    def test_answers_are_the_end_of_the_chain(self, world):
        for problem in world.problems(100, seed=2):
            value, operators = read_prompt(problem.text)
            for operator in operators:
                value = next(y for y in range(MODULUS) if undo(operator, y) == value)
            assert problem.answer == str(value) == str(true_values(problem)[-1])

    def test_equal_seeds_equal_problems_and_solutions(self, world):
        assert world.problems(5, seed=3) == world.problems(9, seed=3)[:5]
        assert world.problems(5, seed=3) != world.problems(5, seed=4)
        assert world.demonstrations(5, seed=3) == world.demonstrations(5, seed=3)
        assert len({problem.id for problem in world.problems(50, seed=3)}) == 50

    def test_demonstrations_read_back(self, world):
        for demonstration in world.demonstrations(50, seed=4):
            solution = parse(demonstration.text)
            assert completion_of(solution.units, solution.thinks) == demonstration.text
            assert all(demonstration.text[unit.start] == ";" for unit in solution.units)
            assert all(flag is not False for flag in copied(demonstration.problem, demonstration.text))

    def test_bad_lengths_are_usage_errors(self, world):
        with pytest.raises(UsageError, match="length must be 1"):
            world.problems(1, seed=0, length=11)


def undo(operator: str, y: int) -> int:
    k = int(operator[1:])
    return {"+": y - k, "/": y * k, "*": y * pow(k, -1, MODULUS)}[operator[0]] % MODULUS


def test_vocabulary_of_world_e_has_62_words():
    assert len(set(WORLD_E.words)) == len(WORLD_E.words) == 62


def test_the_chain_world_has_527_facts():
    assert len(chain_world.OPERATORS) * MODULUS == 527
    assert len(CHAIN.misconceptions) == 132
    assert all(wrong != apply(*fact) for fact, wrong in CHAIN.misconceptions.items())


def test_divisions_are_as_many_as_asked():
    for wanted in range(5):
        for problem in WORLD_E.problems(10, seed=0, length=4, divisions=wanted):
            assert problem.text.count("/") == wanted
    counts = {problem.text.count("/") for problem in WORLD_E.problems(100, seed=0, length=4, divisions=-1)}
    assert counts == {0, 1, 2, 3, 4}
    with pytest.raises(UsageError, match="divisions"):
        WORLD_E.problems(1, seed=0, length=2, divisions=3)


def test_every_division_has_its_true_value_and_fixed_wrong_ones():
    for (k, x), (values, weights) in WORLD_E.guesses.items():
        assert values[0] * k % MODULUS == x
        assert len(set(values)) == 4
        assert 0 not in values
        assert sum(weights) == pytest.approx(1.0)
    assert WORLD_E.guesses == ReflectionWorld().guesses
    assert WORLD_E.guesses != replace(WORLD_E, task_seed=1).guesses


class TestTruth:
    def test_units_of_a_solution_that_takes_a_step_back(self):
        assert truth(TAKEN_BACK) == (False, True, True, True, True, True, True)

    def test_structure_does_not_ask_what_is_right(self):
        labels = structure(TAKEN_BACK)
        assert labels.retracted == (True, False, False, False, False, False, False)
        assert labels.adopted == (False, False, True, True, True, True, True)

    def test_a_wrong_step_that_was_kept_is_not_retracted(self):
        assert truth(KEPT) == (False, True, True, True, True)
        assert not any(structure(KEPT).retracted)
        assert all(structure(KEPT).adopted)

    def test_a_verdict_must_follow_from_the_claimed_product(self):
        assert truth("; Step1 14 /15 4 ; check 4 *15 9 ok")[1] is False
        assert truth("; Step1 14 /15 10 ; check 10 *15 14 no-wait")[1] is False
        assert truth("; Step1 14 /15 10 ; check 10 *15 13 no-wait")[1] is False

    def test_a_line_that_does_not_restate_is_false(self):
        assert truth("; Step1 3 *2 6 </think> answer ; Step1 5")[-1] is False
        assert truth("</think> answer ; Step1 5") == (None,)

    def test_unreadable_units_are_unknown(self):
        assert truth("well ; Step1 3 *2 ; check 3 *2 6 ok ; wait,") == (None, None, None, None)

    def test_copying_is_another_matter(self):
        text = "; Step1 14 /15 10 ; check 9 *15 16 no-wait ; Step2 9 *10 5"
        assert truth(text) == (True, True, True)
        assert copied(PROBLEM, text) == (True, False, False)
        assert copied(PROBLEM, "; Step1 14 /14 1 ; Step3 1 *2 2") == (False, False)

    def test_the_chain_worlds_wait_retracts_and_one_line_restates_the_last_step(self):
        text = "; Step1 3 +2 5 ; Step2 5 *2 11 ; wait, ; Step2 5 *2 10 </think> answer ; Step2 10 <eos>"
        labels = structure(text)
        assert labels.retracted == (False, True, False, False, False)
        assert labels.adopted == (False, False, False, True, True)
        assert labels.solution.units[2].claim == 11
        assert truth(text) == (True, False, None, True, True)


class TestChecker:
    @pytest.mark.parametrize(
        ("text", "finish", "status", "answer", "reason"),
        [
            (TAKEN_BACK, "stop", "right", "15", ""),
            (KEPT, "stop", "wrong", "6", ""),
            (TAKEN_BACK.removesuffix(" <eos>"), "stop", "right", "15", ""),
            (TAKEN_BACK.removesuffix(" <eos>"), "length", "wrong", None, "cut at the token limit"),
            (TAKEN_BACK, "open", "unscorable", None, "open completion"),
            ("; Step1 14 /15 4", "stop", "wrong", None, "no readable answer block"),
            ("</think> answer ; Step2 15 <eos>", "stop", "wrong", None, "answer block does not restate the steps"),
            ("</think> answer ; Step1 10 ; Step2 15 ; ok", "stop", "wrong", None, "no readable answer block"),
            ("</think> ; Step1 10 ; Step2 15", "stop", "wrong", None, "no readable answer block"),
            ("", "stop", "wrong", None, "no readable answer block"),
        ],
    )
    async def test_outcome(self, text, finish, status, answer, reason):
        outcome = await WORLD_E.checker.check(rollout_of(PROBLEM, text, finish))
        assert (outcome.status, outcome.answer, outcome.reason) == (status, answer, reason)

    def test_without_reference_nothing_is_scored(self):
        outcome = WorldChecker().outcome(rollout_of(replace(PROBLEM, answer=None), KEPT))
        assert (outcome.status, outcome.reason) == ("unscorable", "no reference")

    def test_the_chain_world_answers_in_one_line(self):
        checker = CHAIN.checker
        assert checker.outcome(rollout_of(PROBLEM, "</think> answer ; Step2 15 <eos>")).status == "right"
        assert checker.outcome(rollout_of(PROBLEM, TAKEN_BACK)).status == "wrong"

    @given(st.lists(st.sampled_from(reflection_world.WORDS), max_size=40).map(" ".join))
    def test_no_text_is_too_odd_to_read(self, text):
        units = parse(text).units
        assert len(truth(text)) == len(units) == len(copied(PROBLEM, text)) == len(structure(text).adopted)
        assert [unit.start for unit in units] == sorted({unit.start for unit in units})
        outcome = WORLD_E.checker.outcome(rollout_of(PROBLEM, text))
        assert (outcome.status == "right") == (final_value(text, 2) == 15)

    def test_numbers_too_long_for_python_are_unreadable(self):
        long = "9" * 5000
        text = (
            f"; Step{long} 14 /15 4 ; Step1 14 /15 {long} ; check {long} *15 9 ok </think> answer ; Step1 {long} <eos>"
        )
        assert [unit.kind for unit in parse(text).units] == ["other"] * 4
        assert final_value(text, 1) is None


class TestStatistics:
    def test_by_hand(self):
        guesses = "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ; Step2 10 /10 1 ; check 1 *10 10 no-wait"
        texts = [
            # first guess wrong, caught, redone rightly; then a right division with a false alarm that is ignored
            f"{guesses} </think> answer ; Step1 10 ; Step2 1 <eos>",
            # a wrong guess not checked, a wrong one that a wrong product lets pass; the block restates another value
            "; Step1 14 /15 4 ; Step2 4 /10 1 ; check 1 *10 4 ok </think> answer ; Step1 5 ; Step2 1 <eos>",
            "; Step1 14",
        ]
        problem = Problem("p", "Q 14 ; Step1 /15 ; Step2 /10 ?", "1")
        finishes = ("stop", "stop", "length")
        outcomes = [
            WORLD_E.checker.outcome(rollout_of(problem, text, finish))
            for text, finish in zip(texts, finishes, strict=True)
        ]
        assert statistics(outcomes) == WorldStatistics(
            rollouts=3,
            accuracy=2 / 3,
            cut=1 / 3,
            readable=2 / 3,
            tokens=(36 + 25 + 3) / 3,
            first_guess=1 / 4,
            attempts=5 / 4,
            checked_guesses=3 / 5,
            checked=2 / 3,
            caught=1 / 2,
            wrong_guesses=3,
            catch=1 / 3,
            redone=1.0,
            redo_right=1.0,
            false_alarm=1.0,
            answer_consistency=1 / 2,
            forward_facts=2 / 3,
        )

    def test_unknown_without_anything_to_count(self):
        table = statistics([])
        assert table.accuracy is None
        assert table.catch is None

    @pytest.mark.parametrize(
        ("world", "divisions", "accuracy"), [(WORLD_E, 6, 0.17), (WORLD_E, 3, 0.43), (WORLD_A, 3, 0.17)]
    )
    def test_the_demonstrator_is_as_good_as_its_settings_say(self, world, divisions, accuracy):
        """The spec's models after SFT: .16, .388 and .167."""
        table = demonstrated(world, world.demonstrations(600, seed=5, divisions=divisions))
        first = world.hard_share * world.hard_right + (1 - world.hard_share) * world.soft_right
        assert table.accuracy == pytest.approx(accuracy, abs=0.05)
        assert table.first_guess == pytest.approx(first, abs=0.04)
        assert table.checked == pytest.approx(world.check_rate, abs=0.03)
        assert table.caught == pytest.approx(1 - world.pass_wrong, abs=0.03)
        assert table.redone == pytest.approx(1 - world.ignore, abs=0.03)
        assert table.redo_right == pytest.approx(world.retry_right, abs=0.1)
        assert table.false_alarm == pytest.approx(world.false_alarm + 0.01, abs=0.03)
        assert table.answer_consistency == 1.0
        assert table.forward_facts == pytest.approx(world.forward_right, abs=0.01)

    def test_the_cap_of_world_e_cuts_about_one_solution_in_seven(self):
        table = demonstrated(WORLD_E, WORLD_E.demonstrations(600, seed=6, divisions=6))
        assert table.cut == pytest.approx(0.14, abs=0.04)

    def test_the_chain_demonstrator(self):
        table = demonstrated(CHAIN, CHAIN.demonstrations(400, seed=5))
        assert table.first_guess == pytest.approx(0.25 * 0.35 + 0.75 * 0.98, abs=0.03)
        assert table.catch == pytest.approx(CHAIN.wait_rate, abs=0.06)
        assert table.false_alarm is None
        assert table.redone == 1.0
