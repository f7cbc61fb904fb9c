"""What the draws of a bound's evaluation came to, and what each stratum is estimated from: values less what is known.

Two things about a draw are known without evaluating the network, and are taken off its value so that the error bar
shrinks (`core.estimators`): what its noise did to it, and how hard its example was in the other strata.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.estimators import StratumMoments, stratum_moments, without_examples, without_noise
from studies.cell.bound_draws import DrawPlan, PlannedDraws

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DrawnValues:
    """Draws of a plan with what they came to, (M,) each: KL in nats, epsilon MSE per dim, and the noise control.

    A diverged model's infinite terms stay infinite, without a warning each.
    """

    plan: DrawPlan
    draws: PlannedDraws
    kl: Values
    mse: Values
    control: Values

    @classmethod
    def none(cls, plan: DrawPlan) -> DrawnValues:
        return cls(plan, PlannedDraws.none(), np.empty(0), np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return len(self.kl)

    def followed_by(self, draws: PlannedDraws, kl: Values, mse: Values, control: Values) -> DrawnValues:
        return DrawnValues(
            plan=self.plan,
            draws=self.draws.followed_by(draws),
            kl=np.append(self.kl, kl),
            mse=np.append(self.mse, mse),
            control=np.append(self.control, control),
        )

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which of the draws an estimate may use, (M,)."""
        return self.plan.is_estimated_from(self.draws)

    def estimated_from(self) -> DrawnValues:
        """The part of the values that the estimate may use."""
        used = self.used
        return DrawnValues(self.plan, self.draws[used], self.kl[used], self.mse[used], self.control[used])

    def without_noise(self, value: Values, control: Values) -> Values:
        """`value` (M,) of each draw less what its noise explains by `control` (M,)."""
        draws = self.draws
        with np.errstate(invalid="ignore"):
            return without_noise(
                draws.stratum, self.plan.part(draws), value, control, len(self.plan.strata), self.plan.own
            )

    def without_examples(self, value: Values, scale: Values) -> Values:
        """`value` (M,) of each draw less what the other strata say of its example, in units of their `scale` (H,)."""
        with np.errstate(invalid="ignore"):
            return without_examples(self.draws.stratum, self.draws.example, value, scale, self.plan.num_examples)

    def moments(self, value: Values) -> StratumMoments:
        """Mean and variances of `value` (M,) in each stratum."""
        plan = self.plan
        with np.errstate(invalid="ignore"):
            return stratum_moments(self.draws.stratum, self.draws.example, value, len(plan.strata), plan.num_examples)
