"""What a cell measures of its model's likelihood: the bound and its error bar, the truth beside it, the exact value.

Every part is evaluated with one compiled function of the network, on draws that depend on the seed alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from studies.cell.bound import BoundEstimate, Terms, evaluate_bound, linear_denoiser
from studies.cell.draws import generator
from studies.cell.floors import entropy_rows, evaluate_excess, excess_rows
from studies.cell.measured import measured
from studies.cell.model import TrainedModel
from studies.cell.probability_flow import EXACT_UP_TO, FlowSettings, evaluate_flow, flow_rows
from studies.cell.rate_distortion import rate_distortion_rows
from studies.cell.units import in_units_of_file
from studies.datasets import Dataset
from studies.plan.batches import evaluation_batch
from studies.plan.settings import StudySettings
from studies.run.process import Report
from studies.store.files import Row

FLOW_EXAMPLES, FLOW_EXAMPLES_EXACT = 8, 32
"""Unless asked otherwise; the second where the divergence is exact."""
FLOW_SETTINGS = FlowSettings(probes=2, tolerance=1e-2, first_steps=16)
"""An example may still move by the tolerance when the solver's steps are doubled: about 15 times its error."""
FLOW_BOUND_EVALUATIONS = 500
"""Network evaluations per example for the bound of the flow's few examples: about what the flow takes itself."""


def likelihood(
    model: TrainedModel, dataset: Dataset, settings: StudySettings, report: Report
) -> dict[str, Callable[[], list[Row]]]:
    """What is measured about the likelihood of the test set, stage by stage: rows, and the seconds that it took.

    In the units of the test set's file.
    """
    terms = model.placed.bound_terms()
    batch = evaluation_batch(model.placed.network.settings, model.placed.execution.device)

    def timed(stage: str, part: Callable[..., list[Row]]) -> list[Row]:
        begun = time.perf_counter()
        rows = part(model, terms, dataset, settings, batch, report)
        seconds = [measured(f"{stage}_seconds", time.perf_counter() - begun)] if rows else []
        return in_units_of_file([*rows, *seconds], dataset)

    parts = {"bound": bound, "floors": floors, "flow": probability_flow}
    return {stage: partial(timed, stage, part) for stage, part in parts.items()}


def bound(
    model: TrainedModel, terms: Terms, dataset: Dataset, settings: StudySettings, batch: int, report: Report
) -> list[Row]:
    """The test-set bound, split by term and by t; above the entropy where that is known; and as rate and distortion."""
    nats_per_bit_per_dim = dataset.dims * math.log(2)
    estimate = evaluate_bound(
        terms,
        model.process,
        dataset.test,
        model.seed,
        evaluations_per_example=settings.bound_evaluations,
        target_se=None if settings.bound_se is None else settings.bound_se * nats_per_bit_per_dim,
        batch_size=batch,
        progress=lambda done, total: report("bound", done, total),
    )
    rows = [*bound_rows(estimate), *rate_distortion_rows(estimate, model.process)]
    return rows if dataset.truth is None else [*rows, *entropy_rows(estimate, dataset.truth, dataset.test)]


def bound_rows(estimate: BoundEstimate) -> list[Row]:
    """A bound's tidy rows, in bits per dim.

    Its standard error is that of steps and noise, `bound_step_se` and `bound_noise_se` together; with `bound_data_se`,
    what the test set adds by being a sample, it is `bound_total_se`.
    """
    bits = estimate.bits
    mse, mse_error = estimate.epsilon_mse
    size, kl = estimate.strata.size, estimate.kl
    rows = [
        measured("bound", bits(estimate.nats), standard_error=bits(estimate.standard_error)),
        measured("bound_total_se", bits(estimate.total_standard_error)),
        measured("bound_data_se", bits(estimate.data_standard_error)),
        measured("bound_step_se", bits(estimate.step_standard_error)),
        measured("bound_noise_se", bits(estimate.noise_standard_error)),
        measured("bound_prior", bits(estimate.prior)),
        measured("bound_diffusion", bits(float((size * kl.mean)[1:].sum()))),
        measured("bound_decoder", bits(kl.mean[0]), standard_error=bits(kl.standard_error[0])),
        measured("epsilon_mse", mse, standard_error=mse_error),
        measured("bound_evaluations", estimate.evaluations_per_example),
    ]
    for h in range(len(estimate.strata)):
        where: dict[str, Any] = {"t": int(estimate.strata.first[h]), "t_last": int(estimate.strata.last[h])}
        rows.append(measured("bound_at_t", bits(kl.mean[h]), standard_error=bits(kl.standard_error[h]), **where))
        error = estimate.mse.standard_error[h]
        rows.append(measured("epsilon_mse_at_t", estimate.mse.mean[h], standard_error=error, **where))
    return rows


def floors(
    model: TrainedModel, terms: Terms, dataset: Dataset, settings: StudySettings, batch: int, report: Report
) -> list[Row]:
    """Both losses above the floor of the density the data came from, or of the training set where that is unknown."""
    report("floors", 0, 1)
    return excess_rows(evaluate_excess(terms, model.process, dataset.oracle(), model.seed, batch))


def probability_flow(
    model: TrainedModel, terms: Terms, dataset: Dataset, settings: StudySettings, batch: int, report: Report
) -> list[Row]:
    """The likelihood of some test examples by the probability flow, and the bound of the same examples.

    The flow ends in the model's own decoder, so that the two differ in p(x_1) alone. The examples are chosen by chance,
    the same in every cell.
    """
    wanted = settings.flow_examples
    if wanted is None:
        wanted = FLOW_EXAMPLES_EXACT if dataset.dims <= EXACT_UP_TO else FLOW_EXAMPLES
    if wanted == 0 or model.process.num_steps < 2:
        return []
    test = dataset.test[generator(0, "flow examples").permutation(len(dataset.test))[:wanted]]
    exact = evaluate_flow(
        model.placed.flow_field(),
        model.process,
        test,
        model.seed,
        FLOW_SETTINGS,
        terms=terms,
        batch_size=batch,
        progress=lambda done, total: report("flow", done, total),
    )
    around = evaluate_bound(
        terms,
        model.process,
        test,
        model.seed,
        evaluations_per_example=max(settings.bound_evaluations, FLOW_BOUND_EVALUATIONS),
        batch_size=batch,
        control=linear_denoiser(model.process, dataset.test),
    )
    bits = around.bits
    difference = exact.nats - around.nats
    return [
        *flow_rows(exact),
        measured("flow_examples", len(test)),
        measured("flow_bound", bits(around.nats), standard_error=bits(around.standard_error)),
        measured(
            "flow_minus_bound",
            bits(difference),
            standard_error=bits(math.hypot(exact.standard_error, around.standard_error)),
        ),
        measured("flow_minus_bound_total_se", bits(around.standard_error_of_difference(exact.per_example))),
    ]
