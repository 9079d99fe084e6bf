"""Bad settings of a recipe: each is refused before anything runs, with the key and the mend."""

from pathlib import Path

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.recipes.demo import DemoSettings, run_demo
from stepcredit.recipes.demo_settings import DemoRecipe, LearnerPart, load_demo
from stepcredit.recipes.recorded.settings import load_recorded


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pretrain.batches=[]", r"pretrain\.batches: tuple should have at least 1 item"),
        ("pretrain.batches=[[2,0]]", r"pretrain\.batches\.0\.1: .*greater than or equal to 1, got 0"),
        ("pretrain.batches=[[2,-1]]", r"pretrain\.batches\.0\.1: .*got -1"),
        ("pretrain.batches=[[7,1]]", r"pretrain\.batches\.0\.0 must be at most 6, got 7"),
        ("pretrain.batches=[[true,1]]", r"pretrain\.batches: wants a whole number at 0\.0, got True"),
        ("pretrain.updates=true", r"pretrain\.updates: wants a whole number, got True"),
        ('pretrain.updates="5"', r"pretrain\.updates: wants a whole number, got '5'"),
        ("pretrain.updates=5.0", r"pretrain\.updates: wants a whole number, got 5\.0"),
        ("gate.accuracy=true", r"gate\.accuracy: wants a number, got True"),
        ("monitors.act=1", r"monitors\.act: wants true or false, got 1"),
        ("monitors.bounds.kl_k3=nan", r"monitors\.bounds\.kl_k3: .*finite number, got nan"),
        ("monitors.bounds.kl_k3=true", r"monitors\.bounds: wants a number at kl_k3, got True"),
        ("learner.learning_rate=inf", r"learner\.learning_rate: .*finite number, got inf"),
        ("learner.eps_high=inf", r"learner\.eps_high: .*finite number, got inf"),
        ("arms.tp_grpo.alpha=inf", r"arms\.tp_grpo\.alpha: .*finite number, got inf"),
        ("arms.tp_grpo.schedule.max_kl=nan", r"arms\.tp_grpo\.schedule\.max_kl: .*finite number"),
        ("world.divisions=99", r"world\.divisions must be at most world\.length = 6, got 99"),
        ("gate.divisions=50", r"gate\.divisions must be at most world\.length = 6, got 50"),
        ("world.length=7", r"world\.length must be at most 6, got 7"),
        ("measure.levels=[0.5,1.5]", r"measure\.levels\.1: .*less than or equal to 1, got 1\.5"),
        (
            'learner.loss="gpso"',
            r"learner\.loss: input should be 'clipped', 'gspo', 'gspo_token' or 'cispo', got 'gpso'",
        ),
        ('learner.loss="gspo"', r"learner\.loss gspo pays a whole rollout one advantage, arms\.\w+ pays its steps"),
        ("learner.eps_low=1", r"learner: eps_low must be less than 1; only loss cispo goes without a cap below"),
        ('learner.kl="k2"', "learner: kl and kl_weighted do nothing while beta is 0"),
        ('arms.tp_grpo.scale="fixd"', r"arms\.tp_grpo\.scale: input should be 'adaptive' or 'fixed', got 'fixd'"),
    ],
)
def test_a_bad_value_names_its_key(override: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        load_demo(overrides=(override,))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("report.solutions=true", r"report\.solutions: wants a whole number, got True"),
        ("limits.stop_unknown=true", r"limits\.stop_unknown: wants a number, got True"),
        ("server.max_cost=inf", r"server\.max_cost: .*finite number, got inf"),
        ('chekcer.mode="auto"', r"unknown key chekcer; did you mean checker\.mode\?"),
    ],
)
def test_recorded_recipes_are_read_by_the_same_check(override: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_recorded((override,))


def test_whole_numbers_are_numbers() -> None:
    assert load_demo(overrides=("learner.learning_rate=1",)).learner.learning_rate == 1.0


def test_beta_takes_k3_and_refuses_an_estimator_that_does_nothing() -> None:
    assert (LearnerPart().penalty, LearnerPart(beta=0.1).penalty, LearnerPart(beta=0.1, kl="k2").penalty) == (
        "none", "k3", "k2",
    )  # fmt: skip
    with pytest.raises(ValueError, match="zero expected gradient"):
        LearnerPart(beta=0.1, kl="k1")
    with pytest.raises(ValueError, match="needs an estimator"):
        LearnerPart(beta=0.1, kl="none")


class TestUnknownKeys:
    def test_keys_of_arms_are_suggested(self) -> None:
        with pytest.raises(UsageError, match=r"unknown key arms\.grpo\.titel; did you mean arms\.grpo\.title\?"):
            load_demo(overrides=("arms.grpo.titel=1",))
        near = r"arms\.tp_grpo\.schedule\.max_k; did you mean arms\.tp_grpo\.schedule\.max_kl\?"
        with pytest.raises(UsageError, match=near):
            load_demo(overrides=("arms.tp_grpo.schedule.max_k=1",))

    def test_nothing_is_suggested_that_is_not_near(self) -> None:
        with pytest.raises(UsageError, match=r"unknown key zzz$"):
            load_demo(overrides=("zzz=1",))

    def test_a_monitor_that_is_near_none_lists_them_all(self) -> None:
        with pytest.raises(UsageError, match="zzz: no such monitor; there are kl_k1, "):
            load_demo(overrides=("monitors.bounds.zzz=0.5",))


class TestRecipeNames:
    def test_a_recipe_that_ships_is_known_by_its_name(self) -> None:
        assert load_demo(Path("demo")) == load_demo()

    def test_a_folder_is_no_recipe(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="a recipe is one file; name a TOML file, or a recipe that") as caught:
            load_demo(tmp_path)
        assert caught.value.exit_code == 2

    def test_a_recipe_for_something_else_is_told_by_its_sections(self) -> None:
        with pytest.raises(UsageError, match=r"a recipe for something else: it has \[steps\], .* and lacks \[arms\]"):
            load_demo(Path("recorded"))

    def test_an_unknown_arm_lists_those_that_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no arm nope; it has grpo, tp_grpo, tp_grpo_markers, "):
            run_demo(DemoSettings(out=tmp_path / "run", arms=("nope",)))


def test_another_loss_brings_its_published_caps_and_keys_that_are_set_win() -> None:
    plain = load_demo().learner
    assert (plain.loss, plain.eps_low, plain.eps_high, plain.reduction) == ("clipped", 0.2, 0.28, "token")
    gspo = load_demo(overrides=('learner.loss="gspo_token"', "learner.eps_high=1e-3")).learner
    assert (gspo.eps_low, gspo.eps_high, gspo.reduction) == (3e-4, 1e-3, "grpo")
    cispo = load_demo(overrides=('learner.loss="cispo"',)).learner
    assert (cispo.eps_low, cispo.reduction) == (1.0, "token")


@pytest.mark.parametrize(("problems", "part"), [(32, 16), (7, 4)])
def test_an_arm_may_divide_the_rounds(problems: int, part: int) -> None:
    rounds = load_demo(overrides=("rounds.rounds=6", f"rounds.problems={problems}")).rounds
    halves = rounds.divided(2)
    assert (halves.rounds, halves.problems, halves.group_size) == (12, part, rounds.group_size)
    assert rounds.divided(1) == rounds


OWN = {"title": "own", "rule": "rloo"}


def with_arms(learner: dict, **arms: dict) -> DemoRecipe:
    return DemoRecipe.model_validate({"learner": learner, "arms": {name: OWN | keys for name, keys in arms.items()}})


def test_an_arm_s_own_loss_comes_with_its_published_caps_and_stands_before_the_learner_s() -> None:
    recipe = with_arms(
        {"eps_high": 0.3, "beta": 0.1},
        plain={},
        wide={"eps_high": 0.5},
        gspo={"loss": "gspo", "eps_low": 1e-3},
        cispo={"loss": "cispo"},
    )
    found = {name: recipe.learner_of(arm) for name, arm in recipe.arms.items()}
    assert {name: (part.loss, part.eps_low, part.eps_high, part.reduction) for name, part in found.items()} == {
        "plain": ("clipped", 0.2, 0.3, "token"),
        "wide": ("clipped", 0.2, 0.5, "token"),
        "gspo": ("gspo", 1e-3, 4e-4, "grpo"),
        "cispo": ("cispo", 1.0, 4.0, "token"),
    }
    assert {part.beta for part in found.values()} == {0.1}
    back = with_arms({"loss": "gspo"}, one={"loss": "clipped"})
    assert back.learner_of(back.arms["one"]).eps_high == 0.28


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ("grpo", {}), ("dr_grpo", {}), ("rloo", {}), ("rlsp", {}),
        ("spct", {"judge": "oracle"}), ("think_rm", {"judge": "taught"}),
    ],
)  # fmt: skip
def test_gspo_takes_every_rule_that_pays_a_whole_rollout_one_number(rule: str, keys: dict) -> None:
    with_arms({"loss": "gspo"}, one={"rule": rule, **keys})
    with_arms({}, one={"rule": rule, "loss": "gspo", **keys})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"rule": "prl", "loss": "gspo"}, r"arms\.one\.loss gspo pays a whole rollout .* arms\.one pays its steps"),
        ({"rule": "rlsp", "settings": {"baseline": "critic"}, "loss": "gspo"}, "pays its steps"),
        ({"eps_low": 1.0}, r"arms\.one: eps_low must be less than 1"),
    ],
)
def test_an_arm_s_loss_that_does_not_fit_is_refused(keys: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_arms({}, one=keys)
