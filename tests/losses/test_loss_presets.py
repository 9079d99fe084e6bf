import subprocess
import sys

from stepcredit.losses import PRESETS


def test_published_values() -> None:
    dapo = PRESETS["dapo"]
    assert (dapo.eps_low, dapo.eps_high, dapo.reduction, dapo.kl) == (0.2, 0.28, "token", "none")
    assert PRESETS["dr_grpo"].reduction == "dr_grpo"
    assert (PRESETS["grpo"].reduction, PRESETS["grpo"].kl, PRESETS["grpo"].beta) == ("grpo", "k3", 0.04)


def test_every_preset_names_its_source() -> None:
    assert all(preset.source for preset in PRESETS.values())


def test_presets_load_no_torch() -> None:
    code = "import sys, stepcredit.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
