"""The verdict in words: what the run found, with intervals, and nothing beyond what it found.

A difference whose 95 % interval holds zero is said to be unresolved, with the seeds it would take; one seed gives no
interval and therefore no verdict.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd

from studies.reporting.contrasts import levels_in
from studies.reporting.names import full_name_of, name_of, quantity, sampler_name
from studies.reporting.numbers import count, in_sentence, listed, plain, plus_minus, seconds, size_of, some
from studies.reporting.ranking import Ranking, differences_by_range, framework_share
from studies.reporting.trouble import trouble
from studies.reporting.view import View
from studies.statistics import seeds_to_resolve
from studies.store.reading import Run, recipe_factors

LITTLE = 0.05  # of the difference between recipes: below this the framework is said to matter little
MOST_NAMED = 5  # recipes: a sentence about more names a few of them
MANY = 200  # seeds: beyond this "more seeds" is no longer advice


def headline(views: Sequence[View]) -> str:
    """The answer in one short sentence."""
    parts = []
    for view in views:
        where = f"On {name_of(view.dataset)}: " if len(views) > 1 else ""
        parts.append(where + _headline_of(view))
    return " ".join(parts) or "No cell finished, so there is nothing to compare."


def verdict_sentences(run: Run, views: Sequence[View]) -> list[str]:
    """What the run found, a sentence or two a finding, for every dataset; then the cells that failed or diverged.

    Intervals are 95 %, paired over seeds.
    """
    return findings(views) + trouble(run)


def findings(views: Sequence[View]) -> list[str]:
    """What was found on every dataset, a sentence or two for each topic.

    The topics: the bound, where in t the bounds differ, samples, recipes set apart, framework, cost, and what might
    change the answer.
    """
    makers = (
        _bound_sentence, _by_t_sentence, _sample_sentence, _apart_sentence, _framework_sentence, _cost_sentence,
        _caution,
    )  # fmt: skip
    return [sentence for view in views for make in makers if (sentence := make(view))]


def _noun(view: View) -> str:
    return "objectives" if recipe_factors(view.rows) == ["objective"] else "recipes"


def _scope(view: View) -> str:
    """ "On digits (3 seeds, PyTorch and Keras)"."""
    frameworks = listed([name_of(level) for level in view.backends])
    return f"On {name_of(view.dataset)} ({count(view.seeds, 'seed')}, {frameworks})"


def _headline_of(view: View) -> str:
    bound = view.ranking("bound")
    metrics, sampler = view.sample_metrics, view.main_sampler
    samples = view.ranking(metrics[0], sampler) if metrics else None
    known = [ranking for ranking in (bound, samples) if ranking is not None]
    if not known:
        return _framework_headline(view)
    if min(ranking.seeds for ranking in known) == 1:
        return "One seed shows differences, but cannot say whether they would come back with another."
    likelihood = None if bound is None else _leading(bound)
    quality = None if samples is None else _leading(samples)
    judge = _judge(view, metrics, sampler, samples)
    if bound and samples and likelihood and quality:
        if bound.leaders == samples.leaders:
            both = f"has both the {_degree(bound)} likelihood bound and the {_degree(samples)} samples"
            return _capitalised(f"{likelihood} {both} ({judge}).")
        return f"For likelihood, {likelihood}; for samples, {quality} ({judge})."
    if likelihood:
        tail = f"; the samples cannot be told apart ({judge})" if quality == "" else ""
        return _capitalised(f"{likelihood} has the {_degree(bound)} likelihood bound{tail}.")
    if quality:
        tail = "; the bounds cannot be told apart" if likelihood == "" else ""
        return _capitalised(f"{quality} has the {_degree(samples)} samples ({judge}){tail}.")
    undecided = [what for what, leader in (("bounds", likelihood), (f"samples ({judge})", quality)) if leader == ""]
    return f"{count(known[0].seeds, 'seed')} cannot tell the {_noun(view)} apart by their {' or '.join(undecided)}."


def _judge(view: View, metrics: Sequence[str], sampler: str | None, samples: Ranking | None) -> str:
    """By which metric a headline judges the samples, and which others clearly favour another recipe."""
    if samples is None:
        return ""
    others = [ranking for ranking in (view.ranking(metric, sampler) for metric in metrics[1:]) if ranking is not None]
    disagree = [in_sentence(each.quantity.title) for each in others if each.resolved and each.best != samples.best]
    name = in_sentence(samples.quantity.title).split(" (")[0]
    verb = "disagrees" if len(disagree) == 1 else "disagree"
    return f"by {name}; {some(disagree, most=3)} {verb}" if disagree else f"by {name}"


def _leading(ranking: Ranking) -> str:
    """The leading recipes in words; empty where no recipe is clearly behind, since then none leads."""
    behind = [name_of(recipe) for recipe, lead in ranking.leads.items() if lead.excludes_zero]
    leaders = [name_of(recipe) for recipe in (ranking.best, *ranking.leads) if name_of(recipe) not in behind]
    if not behind:
        return ""
    if len(leaders) > 2 and len(behind) <= 2:
        return f"any but the {' and the '.join(behind)}"
    if len(leaders) > 3:
        return f"the {leaders[0]}, not told apart from {count(len(leaders) - 1, 'other')},"
    return f"the {' or the '.join(leaders)}"


def _degree(ranking: Ranking | None) -> str:
    """The word for whoever leads: better of two, best of more."""
    return "best" if ranking is not None and len(ranking.means) > 2 else "better"


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _bounded(view: View) -> list[Hashable]:
    """The recipes with a test bound in some cell."""
    return levels_in(view.values("bound").dropna(axis=1, how="all"), "recipe") if "bound" in view.metrics else []


def _framework_headline(view: View) -> str:
    bounded = _bounded(view)
    if len(bounded) > 1:
        return "No seed has a test bound of two recipes, so there is nothing to compare."
    if not bounded and len(view.recipes) > 1:
        return "No recipe has a test bound or scored samples to compare."
    recipe = name_of((bounded or view.recipes)[0])
    effect = view.framework_contrast("bound")
    if effect is None or effect.interval().n == 1:
        return f"Only one recipe finished ({recipe}), so there is nothing to compare it with."
    verb = "changes" if effect.interval().excludes_zero else "makes no visible difference to"
    return f"Only one recipe finished ({recipe}); the framework {verb} its bound."


def _bound_sentence(view: View) -> str | None:
    ranking = view.ranking("bound")
    if ranking is None:
        return _single_recipe_sentence(view)
    advice = " Run at least 3 seeds." if ranking.seeds == 1 else ""
    return f"{_scope(view)}, {_ranking_clause(ranking, 'test bound', full_name_of)}{advice}"


def _single_recipe_sentence(view: View) -> str | None:
    table = view.values("bound") if "bound" in view.metrics else pd.DataFrame()
    if table.empty or not table.notna().any().any():
        return f"{_scope(view)}, no cell has a test bound."
    unit = view.of_metric("bound")["unit"].iloc[0]
    mean = float(np.nanmean(table))
    recipe, *others = _bounded(view)
    if others:
        return f"{_scope(view)}, no seed has a test bound of two recipes."
    return f"{_scope(view)}, the {full_name_of(recipe)} reaches a test bound of {plain(mean)} {unit}."


def _ranking_clause(ranking: Ranking, what: str, name: Callable[[object], str]) -> str:
    """The comparison in words, from "the posterior KL …" to the full stop."""
    unit = "" if ranking.quantity.unit in ("", "1") else f" {ranking.quantity.unit}"
    better = ranking.quantity.direction
    best, others = ranking.best, list(ranking.leads)
    if len(ranking.means) > 2:
        return _many_clause(ranking, what, unit, name)
    other = others[0]
    named = ranking.contrasts[other].interval_name
    lead, numbers = ranking.leads[other], f"{plain(ranking.means[best])} against {plain(ranking.means[other])}{unit}"
    if lead.n == 1:
        return (
            f"the {name(best)} has the {better} {what}, {numbers}, a difference of {plus_minus(lead)};"
            " one seed gives no interval, so this says nothing yet about another seed."
        )
    if lead.excludes_zero:
        return (
            f"training with the {name(best)} gives a {better} {what} than the {name(other)}:"
            f" {numbers}, a difference of {size_of(lead)} ({named}, {count(lead.n, 'paired seed')})."
        )
    return (
        f"the {name(best)} and the {name(other)} cannot be told apart in {what} by {count(lead.n, 'seed')}:"
        f" {numbers}, difference {size_of(lead)} ({named}); {_seeds_advice(ranking, other)}."
    )


def _many_clause(ranking: Ranking, what: str, unit: str, name: Callable[[object], str]) -> str:
    clear = [f"the {name_of(other)} by {size_of(lead)}" for other, lead in ranking.leads.items() if lead.excludes_zero]
    unclear = [
        f"the {name_of(other)} ({size_of(lead)})" for other, lead in ranking.leads.items() if not lead.excludes_zero
    ]
    extreme = {"lower": "lowest", "higher": "highest"}[ranking.quantity.direction or "lower"]
    value = f"{plain(ranking.means[ranking.best])}{unit}"
    if len(ranking.means) > MOST_NAMED:
        of = f"{what} of {len(ranking.means)} recipes"
        return f"the {name(ranking.best)} has the {extreme} {of}, {value}; {_field_clause(ranking, unit)}"
    text = f"the {name(ranking.best)} has the {extreme} {what}, {value}"
    if ranking.seeds == 1:
        return f"{text}; one seed gives no interval, so the order may change with another seed."
    if clear:
        text += f"; it beats {listed(clear)}"
    if unclear:
        text += ", but" if clear else "; it"
        text += f" cannot be told apart by {count(ranking.seeds, 'seed')} from {listed(unclear)}"
    return f"{text} (these intervals hold jointly at 95 % over {count(ranking.pairs, 'comparison')})."


def _field_clause(ranking: Ranking, unit: str) -> str:
    """How the best of more recipes than are named stands among them, up to the full stop."""
    if ranking.seeds == 1:
        return "one seed gives no interval, so the order may change with another seed."
    nearest = sorted(ranking.leads, key=lambda recipe: ranking.leads[recipe].estimate)
    tied = [f"the {name_of(other)}" for other in nearest if not ranking.leads[other].excludes_zero]
    clear = sorted(lead.estimate for lead in ranking.leads.values() if lead.excludes_zero)
    parts = []
    if clear:
        by = plain(clear[0], 2) if len(clear) == 1 else f"{plain(clear[0], 2)} to {plain(clear[-1], 2)}"
        parts.append(f"it beats {len(clear)} of them by {by}{unit}")
    if tied:
        parts.append(f"{count(ranking.seeds, 'seed')} cannot tell it from {some(tied)}")
    return f"{', but '.join(parts)} (joint 95 % intervals; the ranking is in the table)."


def _seeds_advice(ranking: Ranking, other: Hashable) -> str:
    differences = ranking.contrasts[other].differences.to_numpy()
    if np.allclose(differences, 0):
        return "they are equal in every seed"
    needed = seeds_to_resolve(differences)
    if needed > MANY:
        return f"a difference this small would need more than {MANY} seeds"
    return f"about {needed:.0f} seeds would resolve a difference of this size"


def _by_t_sentence(view: View) -> str | None:
    """Where in t a resolved difference of two bounds is made."""
    ranking = view.ranking("bound")
    if ranking is None or len(ranking.means) != 2 or not ranking.resolved:
        return None
    other = next(iter(ranking.leads))
    ranges = differences_by_range(view.by_t, other, ranking.best)
    if ranges is None:
        return None
    seen = 0.005 * abs(sum(interval.estimate for _, interval in ranges))
    parts = [
        f"nothing {where}"
        if max(abs(interval.low), abs(interval.high)) < seen
        else f"{plus_minus(interval, signed=True)} {where}"
        for where, interval in ranges
    ]
    return f"By range of t, the {name_of(ranking.best)} gains (in bits/dim): {', '.join(parts)}."


def _sample_sentence(view: View) -> str | None:
    metrics, sampler = view.sample_metrics, view.main_sampler
    if sampler is None:
        return None
    ranking = view.ranking(metrics[0], sampler)
    if ranking is None:
        return None
    title = in_sentence(ranking.quantity.title)
    least = view.floor(metrics[0], sampler)
    better = f" {ranking.quantity.direction.capitalize()} is better" if ranking.quantity.direction else ""
    real = f"; held-out real data get {plain(least, 3)}" if least is not None else ""
    clause = _ranking_clause(ranking, title, name_of)
    return f"For samples ({sampler_name(sampler)}), {clause}{better}{real}.{_tally(view, metrics, sampler)}"


def _tally(view: View, metrics: Sequence[str], sampler: str) -> str:
    """How many sample metrics favour each recipe, each by its own interval, and how many are undecided."""
    rankings = [ranking for ranking in (view.ranking(metric, sampler) for metric in metrics) if ranking is not None]
    if len(rankings) < 2 or min(ranking.seeds for ranking in rankings) == 1:
        return ""
    wins = [name_of(ranking.best) for ranking in rankings if ranking.resolved]
    parts = [f"{wins.count(recipe)} favour the {recipe}" for recipe in dict.fromkeys(wins)]
    parts = [part.replace("1 favour ", "1 favours ") if part.startswith("1 ") else part for part in parts]
    undecided = len(rankings) - len(wins)
    parts += [f"{undecided} {'is' if undecided == 1 else 'are'} undecided"] if undecided else []
    return f" Of {len(rankings)} sample metrics, by 95 % intervals, {listed(parts)}."


def _apart_sentence(view: View) -> str | None:
    """Which recipes are not ranked with the others, and why."""
    if not view.apart:
        return None
    named = some([f"the {name_of(recipe)} ({reason})" for recipe, reason in view.apart.items()])
    verb = "is" if len(view.apart) == 1 else "are"
    return _capitalised(f"{named} {verb} set apart: not ranked with the others, nor drawn with them.")


def _framework_sentence(view: View) -> str | None:
    """What the framework changes, and how large that is beside what the objective changes."""
    backends = view.backends
    if len(backends) < 2:
        return f"Only {name_of(backends[0])} was run, so the framework’s effect is not known." if backends else None
    metrics, sampler = view.sample_metrics, view.main_sampler
    effects = {"bound": view.framework_contrast("bound")}
    if metrics and quantity(metrics[0]).direction:
        effects["samples"] = view.framework_contrast(metrics[0], sampler)
    known = {what: effect for what, effect in effects.items() if effect is not None}
    if not known:
        return None
    first = next(iter(known.values()))
    pair = f"{name_of(first.first)} − {name_of(first.second)}"
    where = {
        "bound": "bits/dim in the bound",
        "samples": f"in {in_sentence(quantity(metrics[0]).title)}" if metrics else "",
    }
    numbers = listed([f"{plus_minus(effect.interval())} {where[what]}" for what, effect in known.items()])
    n = first.interval().n
    if n == 1:
        return f"The framework: {pair} is {numbers}, in one seed and without an interval."
    share = framework_share(view.ranking("bound"), effects["bound"])
    if share is not None and share <= LITTLE:
        return (
            f"The framework matters little beside the {_noun(view)}: {pair} is {numbers} (95 % intervals); in the bound"
            f" that is at most {_rounded_up(100 * share):g} % of the difference between the {_noun(view)}."
        )
    changed = [what for what, effect in known.items() if effect.interval().excludes_zero]
    if changed:
        return f"The framework changes the {listed(changed)}: {pair} is {numbers} (95 % intervals)."
    neither = f"neither {' nor '.join(known)}" if len(known) > 1 else f"no {next(iter(known))}"
    seen = f"by an amount that {count(n, 'seed')} can see"
    return f"The framework changes {neither} {seen}: {pair} is {numbers} (95 % intervals)."


def _rounded_up(percent: float) -> float:
    """A percentage rounded up to one digit, so that "at most" stays true of it; at least 0.01."""
    digit = 10.0 ** math.floor(math.log10(max(percent, 0.01)))
    return round(math.ceil(percent / digit) * digit, 2) or digit


def _cost_sentence(view: View) -> str | None:
    if view.cost_metric is None:
        return None
    spent = view.of_metric(view.cost_metric)
    medians = spent.groupby("backend", sort=False)["value"].median()
    parts = [f"{seconds(value)} in {name_of(backend)}" for backend, value in medians.items()]
    by_clock = "by the clock, other load on the machine included"
    measured_by = by_clock if view.cost_metric == "train_seconds" else "of processor time"
    sentence = f"Training one cell took {listed(parts)} (median, {measured_by})."
    shared = view.of_metric("trained_together")["backend"].unique()
    if len(shared):
        names = listed([name_of(backend) for backend in shared])
        sentence += f" Cells of {names} trained several to a program, and a cell’s time is its share of that."
    return sentence


def _caution(view: View) -> str | None:
    """What is known to change an answer about the KL, where the run did not try it."""
    objectives = set(view.rows["objective"])
    uniform = "timesteps" in view.rows and set(view.rows["timesteps"]) == {"uniform"}
    if len(objectives) == 1 or "posterior_kl" not in objectives or not uniform:
        return None
    return (
        "Every cell drew t uniformly, which leaves the KL’s gradients the noisier. Drawn by importance, t has turned an"
        " answer like this round: --timesteps uniform importance tries both."
    )
