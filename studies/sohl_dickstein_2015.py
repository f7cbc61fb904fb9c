"""The recipe of Sohl-Dickstein et al. (2015) whole, on a swiss roll: the bound in bits, its gain over a Gaussian.

Mean and diagonal covariance of 40 reverse steps are predicted and trained by the posterior KL, with the forward
schedule learned beside them and its first step held still; next to it, the same without learning the schedule. Then
points are denoised, and completed from one coordinate, by multiplying each step with a second distribution.

Theirs in form: the mean as an offset from sqrt(1 - beta) x_t in units of sqrt(beta), which is v-prediction in a unit of
each step's own; a loss that is the whole bound. Ours: the log variance is beta tilde's plus the output, where theirs is
sigmoid(output + logit(beta)), the same to first order in beta but for where it starts; one residual perceptron told the
step, where they read out every step of a radial basis network by weights of its own; Adam for RMSprop; the schedule
starts evenly in log SNR, since 1/(T - t + 1) behind a small beta_1 takes most of the range in one step.

Table 1 there: 2.35 bits, 6.45 over an isotropic Gaussian, on a roll of unit variance whose thickness is not given. No
model of a roll with noise of standard deviation above 0.0037 could reach that; swiss_roll_thin has 0.0036.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.plan.grid import grid
from studies.plan.settings import parse_settings
from studies.study import run_and_report

BASE = {
    "out": Path("runs/sohl_dickstein_2015"),
    "dataset": "swiss_roll_thin",
    "objectives": ("posterior_kl",),
    "predictions": ("offset",),
    "variances": ("learned_diagonal",),
    "schedules": ("log-linear", "learned-log-linear"),
    "num_steps": 40,
    "train_steps": 4000,
    "batch_size": 512,
    "sample_steps": 40,
    "full_samples": 0,
}

SMOKE = {name: BASE[name] for name in ("schedules", "num_steps", "sample_steps", "full_samples")} | {
    "out": Path("runs/smoke-sohl_dickstein_2015"),
    "seeds": 1,
}
"""The paper's short chain, as it is, by the preset's short training."""


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_settings(argv, description=__doc__ or "", base=BASE, smoke=SMOKE)
        return run_and_report("sohl_dickstein_2015", settings, grid, argv, gain_and_conditional_samples)

    return guarded(run)


def gain_and_conditional_samples(out: Path) -> str:
    """What this study adds to a run before its report is made."""
    from studies.sohl_dickstein.results import add_to_run  # pandas and matplotlib, only needed then

    return add_to_run(out)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
