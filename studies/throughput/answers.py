"""The times to a run's verdicts, on the bound and on samples: tables and sentences from its race and its results."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.datasets import load_dataset
from studies.plan.schedules import length_of
from studies.plan.settings import StudySettings, read_settings
from studies.reporting.names import quantity
from studies.reporting.numbers import in_sentence, plain
from studies.store.reading import result_rows
from studies.store.sampler_chains import Chain
from studies.throughput import time_to_verdict
from studies.throughput.cases import Case
from studies.throughput.contestant import PEERS, REFERENCE, Contestant
from studies.throughput.table import speeds


@dataclass(frozen=True, eq=False)
class Answer:
    """One question of a run, its spreads, and the times to its verdict: the usual way, with `peer`, and ours."""

    question: time_to_verdict.Question
    spreads: list[time_to_verdict.Spread]
    usual: time_to_verdict.Way
    ours: time_to_verdict.Way
    peer: str

    @property
    def title(self) -> str:
        return title_of(self.question)

    @property
    def factor(self) -> float:
        return self.usual.seconds / self.ours.seconds


def title_of(question: time_to_verdict.Question) -> str:
    return in_sentence(quantity(question.metric).title)


Asked = list[tuple[time_to_verdict.Question, list[time_to_verdict.Spread]]]


def asked_of(run: Path) -> Asked:
    """A finished run's questions with its spreads."""
    results, settings = result_rows(run), read_settings(run)
    sampler = Chain(settings.sampler, min(settings.sample_steps, _num_steps(settings))).name
    return [
        (question, time_to_verdict.spreads(results, question))
        for question in time_to_verdict.questions(results, sampler)
    ]


def answers(run: Path, asked: Asked, cases: Sequence[Case]) -> list[Answer]:
    """Empty without a race on the run's network of torch and a peer."""
    case = next((case for case in cases if case.workload == "run"), None)
    if case is None:
        return []
    parts = {
        name: {speed.block: speed.seconds for speed in speeds(case) if speed.contestant == Contestant(name)}
        for name in (*PEERS, REFERENCE)
    }
    # diffusers first: its network is our very own.
    peer = next((name for name in PEERS if parts[name]), None)
    if peer is None or not parts[REFERENCE]:
        return []
    counts = counts_of(read_settings(run))
    return [
        Answer(
            question,
            spreads,
            *time_to_verdict.ways(counts, parts[peer], parts[REFERENCE], case.evaluation_batch, spreads),
            peer=peer,
        )
        for question, spreads in asked
    ]


def counts_of(trained: StudySettings) -> time_to_verdict.Counts:
    return time_to_verdict.Counts(
        train_steps=trained.train_steps,
        test_examples=len(load_dataset(trained.dataset, trained.test_examples, trained.scale).test),
        bound_evaluations=trained.bound_evaluations,
        samples=trained.samples,
        sample_evaluations=min(trained.sample_steps, _num_steps(trained)),
        num_steps=_num_steps(trained),
    )


def _num_steps(trained: StudySettings) -> int:
    """T of a run's cells; a verdict is of one schedule (`time_to_verdict.spreads`)."""
    return next((length_of(words, trained.num_steps) for words in trained.schedules), trained.num_steps)


def tables(run: Path, cases: Sequence[Case]) -> list[tuple[str, list[list[str]]]]:
    return [
        (
            f"Time to a verdict on the {answer.title} to ± {_width(answer.question)}, on one worker; "
            f"the usual way with {answer.peer}",
            time_to_verdict.table(answer.usual, answer.ours),
        )
        for answer in answers(run, asked_of(run), cases)
    ]


def sentences(run: Path, cases: Sequence[Case]) -> list[str]:
    asked = asked_of(run)
    lines = [
        f"In {run}, t {spread.timesteps}: the {title_of(question)} differs by "
        f"{' '.join([plain(spread.difference, 3), question.unit]).strip()}; from seed to seed that difference spreads "
        f"by {plain(spread.paired_sd, 2)} paired and {plain(spread.unpaired_sd, 2)} not, so "
        f"± {plain(question.half_width, 2)} takes {spread.paired_seeds:.0f} seeds paired, "
        f"{spread.unpaired_seeds:.0f} not."
        for question, spreads in asked
        for spread in spreads
    ]
    run_answers = answers(run, asked, cases)
    if not run_answers:
        return [*lines, "No time to a verdict: that takes a race of torch and a peer on the run’s own network."]
    return lines + [_answer_sentence(answer) for answer in run_answers]


def _answer_sentence(answer: Answer) -> str:
    usual_spread, our_spread = time_to_verdict.chosen(answer.spreads)
    parts = ", ".join(
        f"{name} × {share:.2f}" for name, share in time_to_verdict.shares(answer.usual, answer.ours).items()
    )
    factor = f"{plain(max(answer.factor, 1 / answer.factor), 2)} times {'shorter' if answer.factor >= 1 else 'longer'}"
    return (
        f"Time to a verdict on the {answer.title} on one worker: {answer.usual.seconds:,.0f} s the usual way "
        f"({answer.peer}, full sweep, full chain, t {usual_spread.timesteps}, independent seeds), "
        f"{answer.ours.seconds:,.0f} s ours (t {our_spread.timesteps}): {factor}; {parts}."
    )


def _width(question: time_to_verdict.Question) -> str:
    return " ".join([plain(question.half_width, 2), question.unit]).strip()
