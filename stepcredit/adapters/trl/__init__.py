"""TRL (extra `trl`): `GRPOTrainer` with per-token credit by any of our splitters, judges and credit rules.

    from stepcredit.adapters.trl import StepCredit, StepCreditGRPOTrainer

A thin shell (engines.md 1): TRL samples, shuffles, normalises and trains as ever; between sampling and loss its
(B,) advantages give way to our (B, T) ones. `StepCredit` loads no torch; the trainer loads TRL when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.adapters.trl.versions import check_trl

if TYPE_CHECKING:
    from stepcredit.adapters.trl.trainer import StepCreditGRPOTrainer

__all__ = ["StepCredit", "StepCreditGRPOTrainer"]


def __getattr__(name: str) -> Any:
    """The trainer, loaded at first use.

    Raises:
        MachineError: if TRL is not installed, or a version that this adapter is not tested with.
    """
    if name != "StepCreditGRPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_trl()
    from stepcredit.adapters.trl.trainer import StepCreditGRPOTrainer  # noqa: PLC0415 -- loads torch and TRL

    return StepCreditGRPOTrainer
