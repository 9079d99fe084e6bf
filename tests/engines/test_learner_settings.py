import pytest

from stepcredit.core.errors import UsageError
from stepcredit.engines.learner import LearnerSettings
from stepcredit.engines.learner.settings import rate_factor


def test_defaults_are_those_of_tp_grpo() -> None:
    settings = LearnerSettings(1e-6)
    assert (settings.eps_low, settings.eps_high, settings.reduction, settings.beta) == (0.2, 0.28, "token", 0.0)
    assert (settings.weight_decay, settings.max_grad_norm, settings.schedule) == (0.0, 1.0, "constant")


def test_presets_replace_the_loss_only() -> None:
    settings = LearnerSettings(1e-6, token_budget=99).with_preset("grpo")
    assert (settings.reduction, settings.kl, settings.beta, settings.eps_high) == ("grpo", "k3", 0.04, 0.2)
    assert (settings.learning_rate, settings.token_budget) == (1e-6, 99)
    with pytest.raises(UsageError, match="known: grpo, dr_grpo, dapo, tp_grpo, gspo, gspo_token, cispo"):
        settings.with_preset("ppo")
    assert settings.with_preset("cispo").loss == "cispo"
    assert settings.with_preset("gspo").with_preset("grpo").loss == "clipped"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, got -1.0"),
        ({"optimiser": "sgd"}, "optimiser must be adamw or muon, got 'sgd'"),
        ({"eps_low": 1.0}, "eps_low must be in"),
        ({"loss": "gspo-token"}, "loss must be clipped, gspo, gspo_token or cispo, got 'gspo-token'"),
        ({"loss": "gspo", "eps_low": 1.0}, "eps_low must be in"),
        ({"loss": "cispo", "dual_clip": 3.0}, "'cispo' has no dual_clip"),
        ({"dual_clip": 0.5}, "dual_clip must be above 1"),
        ({"token_budget": 0}, "token_budget must be at least 1"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be above 0, or none"),
        ({"optimiser": "muon"}, "needs matrix_learning_rate"),
        ({"schedule": "linear"}, "needs total_updates"),
        ({"reduction": "dr_grpo"}, "set max_tokens"),
        ({"kl": "k1", "beta": 0.1}, "zero expected gradient"),
        ({"kl": "k3"}, "set both"),
        ({"beta": 0.1}, "set both"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LearnerSettings(**({"learning_rate": 0.1} | values))


def test_warm_up_rises_to_the_peak_and_linear_falls_to_its_end() -> None:
    settings = LearnerSettings(1.0, warmup_updates=3, schedule="linear", total_updates=8, final_fraction=0.0)
    factors = [rate_factor(settings, update) for update in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0])


def test_constant_stays() -> None:
    assert {rate_factor(LearnerSettings(1.0), update) for update in range(5)} == {1.0}
