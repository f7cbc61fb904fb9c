"""The study of speed: its arithmetic against known numbers, its workers, and the command from start to finish.

No test asks how long anything takes.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from backends import installed_backends
from backends.flops import forward_flops
from backends.interface import Execution
from backends.networks import MLPSettings, UNetSettings, parameter_count
from studies.plan.machine import KEEP_MEMORY
from studies.store import files
from studies.throughput import account, answers, time_to_verdict, together
from studies.throughput.blocks import CHAIN
from studies.throughput.cases import Case, read_cases
from studies.throughput.contestant import GROWTH, Contestant
from studies.throughput.growth import exponents
from studies.throughput.operators import OUTSIDE, by_operator
from studies.throughput.race import encoded, environment, race
from studies.throughput.report import make_report
from studies.throughput.settings import CONTESTANTS, WORKLOADS, parse_throughput_settings
from studies.throughput.study import PACKAGES
from studies.throughput.table import (
    Compiled,
    compiled,
    loop_over_network,
    median_interval,
    speeds,
    time_over_torch,
    torch_rate_over,
)
from studies.throughput.worker import decoded, make, serve
from studies.throughput.workloads import CIFAR10, Workload, workloads
from tests.studies.synthetic_measurements import case, make_throughput_run
from tests.studies.synthetic_run import make_run

ROOT = Path(__file__).resolve().parents[2]
TINY = Workload("digits", UNetSettings((8, 8, 1), (8, 16)), 4, 8)
CPU = Execution("cpu")
BACKENDS = installed_backends()
TORCH, DIFFUSERS, CEILINGS = Contestant("torch"), Contestant("diffusers"), Contestant("ceilings")


def test_median_interval_holds_the_median_as_often_as_it_says():
    """Order statistics k and n + 1 - k hold it with probability 1 - 2 P(B < k), B ~ binomial(n, 1/2), at least 95 %."""
    for n in range(6, 40):
        interval = median_interval(np.arange(1.0, n + 1))
        rank = int(interval.low)
        assert (interval.high, interval.estimate) == (n + 1 - rank, (n + 1) / 2)
        assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
        assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95
    assert math.isinf(median_interval([1.0, 2.0, 3.0]).half_width)


def test_speeds_are_those_of_known_times():
    """Work over median time; a share is the median of the shares within rounds, so that drift cancels."""
    drift = np.array([1.0, 2.0, 3.0])
    found = case(
        {(TORCH, "train"): list(2 * drift), (CEILINGS, "convolution"): list(drift)},
        {"train": 3e9, "convolution": 2e9},
    )
    train, ceiling = speeds(found)
    assert (train.seconds, train.gflops, train.items_per_second) == (4.0, 0.75, 32.0)
    assert train.share_convolution == pytest.approx((3 / 2) / (2 / 1))
    assert math.isnan(train.share_product)
    assert ceiling.gflops == 1.0
    assert math.isnan(ceiling.share_convolution)


def test_a_race_of_another_version_is_one_clear_line(tmp_path):
    path = tmp_path / "cases" / "digits.json"
    older = {**json.loads(case({(TORCH, "train"): [1.0]}, {"train": 1e9}).to_json()), "dtype": "float32"}
    for text in (json.dumps(older), "{", "{}"):
        files.write_text(path, text)
        with pytest.raises(ValueError, match=r"digits\.json is no race of this version; give another folder"):
            read_cases(tmp_path)


def test_ratios_are_within_rounds():
    drift = np.array([1.0, 5.0, 2.0, 7.0, 3.0, 1.5])
    found = case(
        {
            (TORCH, "train"): list(drift),
            (TORCH, "network"): list(drift),
            (TORCH, "bound"): list(1.04 * drift),
            (DIFFUSERS, "train"): list(1.5 * drift[:-1]),  # it failed in the last round
        },
        {"train": 1e9, "network": 1e9, "bound": 1e9},
    )
    slower, faster = time_over_torch(found, DIFFUSERS), torch_rate_over(found, DIFFUSERS)
    loop = loop_over_network(found, TORCH, "bound")
    assert slower is not None
    assert faster is not None
    assert loop is not None
    assert slower.estimate == pytest.approx(1.5)
    assert slower.n == 5
    assert faster.estimate == pytest.approx(1.5)
    assert (loop.low, loop.high) == (pytest.approx(1.04), pytest.approx(1.04))
    assert time_over_torch(found, TORCH) is None
    assert loop_over_network(found, DIFFUSERS, "bound") is None


def test_compiling_pays_after_its_cost_over_its_gain():
    found = case({(TORCH, "train"): [0.5], (TORCH.once_compiled(), "train"): [0.3]}, {"train": 1e9})
    found.facts[TORCH.once_compiled()].first_seconds["train"] = 41.0
    (one,) = compiled(found)
    assert one.steps == pytest.approx(40 / 0.2)
    assert math.isinf(Compiled(TORCH, 40.0, -0.1).steps)


def test_a_case_is_read_as_it_was_written():
    found = case({(TORCH, "train"): [1.0, 2.0]}, {"train": 1e9})
    assert Case.from_json(found.to_json()) is not found
    assert Case.from_json(found.to_json()).to_json() == found.to_json()


@given(
    st.lists(
        st.builds(
            Contestant,
            st.sampled_from(["torch", "a, b", "torch, bfloat16"]),
            st.sampled_from(["float32", "bfloat16"]),
            st.booleans(),
        ),
        min_size=1,
        unique=True,
    )
)
def test_contestants_are_read_as_they_were_written(contestants):
    """Whatever their names are: no text of theirs is taken apart."""
    raced = case({(contestant, "train"): [i + 1.0] for i, contestant in enumerate(contestants)}, {"train": 1e9})
    again = Case.from_json(raced.to_json())
    assert list(again.facts) == contestants
    for i, contestant in enumerate(contestants):
        assert again.seconds(contestant, "train").tolist() == [i + 1.0]
        assert again.blocks(contestant) == ["train"]


def test_a_label_says_what_is_not_eager_float32():
    labels = [contestant.label for contestant in (TORCH, TORCH.once_compiled(), Contestant("keras", "bfloat16", True))]
    assert labels == ["torch", "torch, compiled", "keras, bfloat16, compiled"]


@pytest.mark.parametrize("workload", [TINY, Workload("points", MLPSettings((2,)), 4, 8)])
def test_workers_are_told_their_workload_as_it_is(workload):
    assert decoded(*encoded(workload, CPU)) == (workload, CPU)


def test_cifar10_has_35_7_million_weights():
    """Ho et al. (2020), app. B."""
    assert parameter_count(CIFAR10) == pytest.approx(35.7e6, rel=2e-3)
    assert set(workloads(True)) == set(workloads(False)) == set(WORKLOADS)


def test_forward_flops_of_an_mlp_are_two_for_each_weight_of_its_matrices():
    settings = MLPSettings((2,), width=8, depth=1, time_features=4)
    matrices = 4 * 8 + 8 * 8 + 2 * 8 + 3 * 8 * 8 + 8 * 2
    assert forward_flops(settings) == 2 * matrices


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings",
    [
        UNetSettings((8, 8, 1), (16, 32)),
        UNetSettings((8, 16, 3), (8, 16, 16), 2, (0, 2), norm_groups=4, learns_variance=True),
        UNetSettings((8, 2), (8, 16), mid_attention=False),
    ],
)
def test_forward_flops_are_those_that_pytorch_counts(settings):
    """On a device where every layer is the one it is defined as."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from backends.torch.network import UNet

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        UNet(settings)(torch.empty(1, *settings.shape), torch.ones(1))
    assert counter.get_total_flops() == forward_flops(settings)


@pytest.mark.torch
def test_time_is_told_by_operator():
    """A block of three products and an addition a unit: the profiler is asked once, for the units that ran."""
    import torch

    a, ran = torch.ones(300, 300), []

    def run(count: int) -> int:
        ran.append(count)
        for _ in range(3 * count):
            a @ a
        a + a
        return count

    found = by_operator(run, 4)
    assert ran == [4]
    assert {"mm", "add", OUTSIDE} <= set(found)
    assert max(found, key=found.__getitem__) == "mm"
    assert all(seconds > 0 for seconds in found.values())


def test_an_account_adds_up(monkeypatch):
    """Every second is in one row, small operators together; what is counted is what has operations to count."""
    raced = case({(TORCH, "train"): [1.0], (CEILINGS, "convolution"): [1.0]}, {"train": 3e9, "convolution": 2e9})
    assert account.table(raced) is None
    assert list(account.sentences(raced, "float32")) == []
    spent = {"convolution_backward": 1.5, "mm": 0.5, "silu": 0.4, "add": 0.01, "mul": 0.02, OUTSIDE: 0.07}
    raced.facts[TORCH].account = spent
    assert account.table(raced) == [
        ["operator", "", "torch"],
        ["convolution_backward", "", "1500.0 (60 %)"],
        ["mm", "", "500.0 (20 %)"],
        ["silu", "", "400.0 (16 %)"],
        ["all others", "", "30.0 (1 %)"],
        ["outside operators", "", "70.0 (3 %)"],
    ]
    (sentence,) = account.sentences(raced, "float32")
    assert "take 80 % of a step and run at 75 % of the ceiling; the other 500 ms" in sentence
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert by_operator(lambda count: count) == {}


positive = st.floats(0.01, 1e4)
WAYS = st.builds(time_to_verdict.Way, positive, positive, positive, st.integers(2, 50).map(float))


@given(WAYS, WAYS)
def test_shares_multiply_to_the_whole_factor(usual, ours):
    """Shapley's rule is efficient, and gives nothing to a part that did not change."""
    shares = time_to_verdict.shares(usual, ours)
    assert math.prod(shares.values()) == pytest.approx(usual.seconds / ours.seconds, rel=1e-9)
    same = time_to_verdict.Way(usual.train, ours.bound, ours.sample, ours.seeds)
    assert time_to_verdict.shares(usual, same)["train"] == pytest.approx(1, rel=1e-9)


def test_a_verdict_is_counted_from_its_parts():
    """Two objectives times seeds times (steps, evaluations of the test set, evaluations of the samples)."""
    counts = time_to_verdict.Counts(
        train_steps=100, test_examples=50, bound_evaluations=10, samples=20, sample_evaluations=5, num_steps=1000
    )
    theirs = {"train": 0.2, "network": 0.01, "sample": 0.02}
    ours = {"train": 0.1, "network": 0.01, "bound": 0.03, "sample": 0.02}
    spreads = [
        time_to_verdict.Spread("importance", 0.1, 1.0, 1.0, 2, 3),
        time_to_verdict.Spread("uniform", 0.1, 1.0, 1.0, 4, 6),
    ]
    usual, mine = time_to_verdict.ways(counts, theirs, ours, 10, spreads)
    assert usual.seconds == pytest.approx(2 * 6 * (100 * 0.2 + 1000 * 5 * 0.01 + 2 * 1000 * 0.02))
    assert mine.seconds == pytest.approx(2 * 2 * (100 * 0.1 + 10 * 5 * 0.03 + 2 * 5 * 0.02))
    assert time_to_verdict.table(usual, mine)[-1][-1] == f"× {usual.seconds / mine.seconds:.1f}"  # noqa: RUF001


BOUND = time_to_verdict.Question("bound", 0.02, "bits/dim")


def test_seeds_come_from_the_bounds_of_a_run():
    """What seeds share cancels in pairs: the paired spread is that of the differences alone."""
    shared, own = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.01, -0.01, 0.01, -0.01])
    rows = [
        {"metric": "bound", "objective": name, "backend": backend, "seed": seed, "value": value}
        for name, values in (("epsilon_mse", shared), ("posterior_kl", shared + 0.1 + own))
        for backend in ("torch", "keras")
        for seed, value in enumerate(values)
    ]
    (found,) = time_to_verdict.spreads(pd.DataFrame(rows), BOUND)
    assert found.difference == pytest.approx(0.1)
    assert found.paired_sd == pytest.approx(own.std(ddof=1))
    assert found.unpaired_seeds > 1000 * found.paired_seeds
    with pytest.raises(ValueError, match="2 objectives"):
        time_to_verdict.spreads(pd.DataFrame(rows[:8]), BOUND)
    for factor, (one, other) in {"dtype": ("float32", "bfloat16"), "schedule": ("linear", "cosine:50")}.items():
        two = pd.concat([pd.DataFrame(rows).assign(**{factor: value}) for value in (one, other)])
        with pytest.raises(ValueError, match=f"differ in nothing else, got several of {factor}; give --run another"):
            time_to_verdict.spreads(two, BOUND)
    both = pd.concat([pd.DataFrame(rows), pd.DataFrame(rows).assign(timesteps="importance")])
    assert [one.timesteps for one in time_to_verdict.spreads(both, BOUND)] == ["uniform", "importance"]


def test_a_run_is_asked_about_its_samples_too():
    """To a tenth of the better objective's distance, by the chain whose samples it compares, and by no other."""
    rows = [
        {
            "metric": "frechet",
            "objective": objective,
            "seed": seed,
            "sampler": sampler,
            "value": factor * (value + noise),
        }
        for objective, value in (("epsilon_mse", 0.8), ("posterior_kl", 1.0))
        for seed, noise in enumerate((-0.1, 0.1))
        for sampler, factor in (("ancestral-100", 1.0), ("ancestral-1000", 100.0))
    ]
    bound, samples = time_to_verdict.questions(pd.DataFrame(rows), "ancestral-100")
    assert bound == BOUND
    assert samples.half_width == pytest.approx(0.08)
    (found,) = time_to_verdict.spreads(pd.DataFrame(rows), samples)
    assert found.difference == pytest.approx(0.2)
    for fewer, asked in ((rows, "ddim-50"), (rows[:4], "ancestral-100"), (rows[:6], "ancestral-100")):
        assert time_to_verdict.questions(pd.DataFrame(fewer), asked) == [BOUND]


def test_a_run_has_a_time_to_a_verdict_on_its_bound_and_on_its_samples(tmp_path):
    """With 1 s a unit of everything, and none without a race of torch and a peer on the run's own network."""
    run = make_run(tmp_path / "run")
    units = dict.fromkeys(("train", "network", "bound", "sample"), 1e9)
    raced = case({(contestant, block): [1.0] for contestant in (TORCH, DIFFUSERS) for block in units}, units)
    own = Case("run", raced.batch, raced.evaluation_batch, raced.facts, raced.times)
    assert answers.tables(run, [raced]) == []
    assert len(answers.tables(run, [own])) == 2
    assert answers.sentences(run, [raced])[-1].startswith("No time to a verdict")
    bound, samples = answers.answers(run, answers.asked_of(run), [own])
    for one in (bound, samples):
        assert (one.usual.train, one.ours.train, one.peer) == (3000, 3000, "diffusers")
        assert one.usual.bound == pytest.approx(20 * one.ours.bound)  # 1000 steps, and 50 evaluations an example
        assert one.usual.sample == pytest.approx(10 * one.ours.sample)  # 1000 steps, and 100
    scored = pd.read_csv(run / "results.csv").query("metric == 'frechet' and sampler == 'ancestral-100'")
    better = scored[scored["objective"] == "epsilon_mse"]["value"].mean()
    assert samples.question.half_width == pytest.approx(0.1 * better)
    *_, on_bound, on_samples = answers.sentences(run, [own])
    assert on_bound.startswith("Time to a verdict on the test bound on one worker: ")
    assert on_samples.startswith("Time to a verdict on the Fréchet distance (data space) on one worker: ")


@pytest.mark.parametrize("name", BACKENDS)
def test_networks_are_timed_together_and_alone(name, capsys):
    """By a clock that ticks once a reading: every block of steps then lasts one tick, whatever it holds."""
    ticks = itertools.count()
    network = MLPSettings((2,), width=8, depth=1, time_features=4)
    found = together.measure_together(name, network, 3, batch=4, rounds=3, block_seconds=2, clock=lambda: next(ticks))
    assert (found.members, found.parameters) == (3, parameter_count(network))
    assert (found.alone_seconds, found.together_seconds) == (0.5, 0.5)
    assert (found.low, found.ratio, found.high) == (1, 1, 1)
    assert together.main([name, "--networks", "mlp", "--members", "2", "--batch", "4", "--rounds", "1"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert len(heading.split()) == 9
    assert line.startswith("mlp")


def test_growth_is_the_slope_of_logarithms():
    rows = pd.DataFrame({"quantity": ["steps"] * 3, "n": [10, 20, 40], "seconds": [1.0, 4.0, 16.0], "bytes": [1.0] * 3})
    assert exponents(rows)["steps"] == pytest.approx(2)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_worker_answers_what_it_is_asked(name):
    """Every block runs, says how much it did, and nothing else is said."""
    workload = Workload("points", MLPSettings((2,), width=8, depth=1, time_features=4), 4, 8)
    asked = [{"block": block, "count": 2} for block in ("train", "network", "bound", "sample")] + [{"memory": True}]
    said = io.StringIO()
    assert serve(name, workload, CPU, [json.dumps(one) for one in asked], said) == 0
    ready, *answers, memory = (json.loads(line) for line in said.getvalue().splitlines())
    assert ready["blocks"] == ["train", "network", "bound", "sample"]
    assert ready["flops"]["train"] == 3 * 4 * forward_flops(workload.network)
    assert [one["units"] for one in answers[:2]] == [2, 2]
    assert answers[2]["units"] >= 2
    assert answers[3]["units"] == CHAIN
    assert all(one["seconds"] > 0 for one in answers)
    assert memory["bytes"] > 10**7


def test_a_worker_of_growth_works_on_its_own_chain():
    """Of T steps, which it is told as a part of its workload."""
    workload = Workload("growth", MLPSettings((2,), width=8, depth=1, time_features=4), 4, 8, num_steps=7)
    said = io.StringIO()
    wanted = [{"block": "steps", "count": 1}, {"block": "sampler steps", "count": 8}]
    assert serve(GROWTH, workload, CPU, [json.dumps(request) for request in wanted], said) == 1
    ready, stepped, refused = (json.loads(line) for line in said.getvalue().splitlines())
    assert ready["blocks"] == ["steps", "examples", "sampler steps"]
    assert stepped["units"] == 1
    assert "steps 1..7 can be respaced to 1..7 steps, got 8" in refused["error"]


def test_a_contestant_that_fails_says_why_in_one_line():
    said = io.StringIO()
    assert serve("nobody", TINY, CPU, [], said) == 1
    assert "unknown contestant 'nobody'" in json.loads(said.getvalue())["error"]
    assert set(PACKAGES) == {*CONTESTANTS, "ceilings"}
    with pytest.raises(ValueError, match="known: torch, keras, ceilings, diffusers"):
        make("nobody", TINY, CPU)


def test_only_ours_run_in_the_environment_of_cells(monkeypatch):
    """Unless the user has set it for everybody."""
    for name in KEEP_MEMORY:
        monkeypatch.delenv(name, raising=False)
    assert set(KEEP_MEMORY) <= set(environment(TORCH, "cpu", 1))
    assert not set(KEEP_MEMORY) & set(environment(DIFFUSERS, "cpu", 1))
    chosen = next(iter(KEEP_MEMORY))
    monkeypatch.setenv(chosen, "7")
    assert {environment(contestant, "cpu", 1)[chosen] for contestant in (TORCH, DIFFUSERS)} == {"7"}


def test_a_race_goes_on_without_those_that_fail(tmp_path):
    ours, nobody = Contestant(BACKENDS[0]), Contestant("nobody")
    found = race([ours, nobody], TINY, device="cpu", rounds=2, block_seconds=0.01, threads=1, logs=tmp_path)
    assert "unknown contestant" in str(found.facts[nobody].error)
    assert found.blocks(nobody) == []
    assert found.blocks(ours) == ["train", "network", "bound", "sample"]
    assert len(found.seconds(ours, "train")) == 2
    assert bool(found.facts[ours].account) == (BACKENDS[0] == "torch")
    assert found.facts[ours].memory_bytes > 10**7


def test_the_report_is_written_from_the_folder_alone(tmp_path):
    """Tables, sentences and figures from a race whose figures are known."""
    make_throughput_run(tmp_path)
    said, path = make_report(tmp_path)
    assert path == tmp_path / "report.html"
    page = path.read_text().replace("\N{NO-BREAK SPACE}", " ")
    headline = (
        "A training step on digits, batch 128, takes 1,025 ms in PyTorch, 100 % of the rate of a convolution alone;"
        " diffusers takes 2.00 times as long"
    )
    assert said.splitlines()[0] == headline
    assert f"<h1>{headline}</h1>" in page
    assert "100\N{NO-BREAK SPACE}% of the rate" in path.read_text()  # the number and its sign on one line
    for sentence in (
        "On digits: torch reaches 100 % of the convolution ceiling; torch does 2.00 (2.00 to 2.00) times the operations"
        " a second of the best peer, diffusers;",
        "torch, bfloat16 reaches 50 % of the convolution ceiling; ",
        "torch, bfloat16 does 1.25 (1.25 to 1.25) times the operations a second of the best peer, diffusers, bf",
        "torch, bfloat16 takes 0.800 (0.800 to 0.800) times a step",
        "An evaluation of torch takes 1.00 (1.00 to 1.00) times in the bound loop and 1.00 (1.00 to 1.00) times in the"
        " sample loop what the bare network",
        "compiling torch costs 30 s at the start and pays after 57 steps.",
        "Time grows as n to the power of: steps 1.0",
        "Memory at its most: 95 MB with T = 100, 95 MB with T = 1,000, 95 MB with 25 steps and 95 MB with 100 steps.",
    ):
        assert sentence in said
        assert sentence in page
    assert '<th scope="row">ceiling: convolution, bfloat16</th>' in page
    assert not re.search("not finite|nan\\b", said + page)  # what was not measured is blank
    cells = '<td data-of="weights">0.00 M</td><td data-of="ms a step">1,025</td>'
    assert f'<th scope="row">torch</th>{cells}' in re.sub(r' class="left"', "", page)
    assert "met" not in re.sub("method|Method|metric", "", said)
    assert {path.name for path in (tmp_path / "figures").glob("*.png")} == {"training.png", "growth.png"}
    assert len(pd.read_csv(tmp_path / "results.csv")) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--workloads", "speech"],
            r"invalid choice 'speech' for argument '--workloads'. Expected one of \('digits', 'images', 'cifar10'\)",
        ),
        (
            ["--contestants", "nobody"],
            r"invalid choice 'nobody' for argument '--contestants'. Expected one of \('torch', ",
        ),
        (
            ["--modes", "fast"],
            r"invalid choice 'fast' for argument '--modes'. Expected one of \('eager', 'compiled', 'both'\)",
        ),
        (["--workloads"], "--workloads names at least one, got none"),
        (["--rounds", "0"], "--rounds is at least 1, got 0"),
        (["--block-seconds", "0"], "--block-seconds is a positive number, got 0"),
        (["--clock", "cpu", "--threads", "2"], "--clock cpu is for --threads 1"),
        (["--run", "runs/x", "--out", "runs/x"], "--out is a folder of its own"),
    ],
)
def test_a_bad_value_is_one_clear_line(words, message):
    with pytest.raises(ValueError, match=message):
        parse_throughput_settings(words, description="")
