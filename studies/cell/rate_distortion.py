"""Rate and distortion by t as tidy rows: the bound of Ho et al. (2020) read as a progressive code (their sec. 4.3).

Their Table 4 is `rate` (all terms but L_0), `distortion` (L_0) and `rmse` of x_0_hat at t = 1; their Fig. 5 is the rows
by t.
"""

from __future__ import annotations

from typing import Any

from core.bounds import bits_per_dim, in_levels, rate_distortion
from core.reverse import ReverseProcess
from studies.cell.bound import BoundEstimate
from studies.cell.measured import measured
from studies.store.files import Row


def rate_distortion_rows(estimate: BoundEstimate, process: ReverseProcess) -> list[Row]:
    """Rows of a bound's estimate, which has all that is needed: no further evaluation.

    `rate_at_t` in bits per dim and `distortion_at_t` as a root mean square per dim: on the scale 0..K-1 for data with K
    levels, else in units of the data. `rate`, `distortion` and `rmse` are the ends at t = 1.
    """

    def bits(nats: Any) -> Any:
        return bits_per_dim(nats, estimate.dims)

    strata, kl, x_0_mse = estimate.strata, estimate.kl, estimate.x_0_mse
    curve = rate_distortion(strata, estimate.prior, kl.mean, kl.standard_error, x_0_mse.mean, x_0_mse.standard_error)
    rate, rate_error = bits(curve.rate), bits(curve.rate_error)
    levels = process.levels
    scale = 1.0 if levels is None else float(in_levels(1.0, levels))
    rmse, rmse_error = scale * curve.rmse, scale * curve.rmse_error
    unit = "data units" if levels is None else f"levels, 0 to {levels - 1}"
    rows = [
        measured("rate", rate[0], standard_error=rate_error[0]),
        measured("distortion", bits(kl.mean[0]), standard_error=bits(kl.standard_error[0])),
        measured("rmse", rmse[0], unit, standard_error=rmse_error[0]),
    ]
    for h in range(len(strata)):
        where: dict[str, Any] = {"t": int(strata.first[h]), "t_last": int(strata.last[h])}
        rows.append(measured("rate_at_t", rate[h], standard_error=rate_error[h], **where))
        rows.append(measured("distortion_at_t", rmse[h], unit, standard_error=rmse_error[h], **where))
    return rows
