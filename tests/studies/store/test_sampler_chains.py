"""The names of chains: what is written can be read, and names of older runs that are no chain are none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.samplers import SAMPLERS
from studies.store.sampler_chains import SPACINGS, Chain, Family

families = st.builds(Family, st.sampled_from(sorted(SAMPLERS)), st.sampled_from(SPACINGS))


@given(families, st.integers(1, 10**6))
def test_a_chain_is_read_from_its_name(family, steps):
    """`named` is the inverse of `name`."""
    chain = Chain(family.sampler, steps, family.spacing)
    assert Chain.named(chain.name) == chain
    assert chain.family == family


@given(families)
def test_a_family_is_read_from_its_name_which_is_no_chains(family):
    assert Family.named(str(family)) == family
    assert Chain.named(str(family)) is None


def test_names_are_those_that_runs_have():
    assert [Chain("ddim", 50).name, Chain("dpm_solver", 20, "logsnr").name] == ["ddim-50", "dpm_solver-20-logsnr"]
    assert [str(Family("ddim")), str(Family("dpm_solver", "logsnr"))] == ["ddim", "dpm_solver-logsnr"]


def test_every_chain_has_a_name_of_its_own():
    chains = [Chain(*parts) for parts in itertools.product(SAMPLERS, (1, 10, 100), SPACINGS)]
    assert len({chain.name for chain in chains}) == len(chains)


@pytest.mark.parametrize("text", ["ancestral", "", "ddim-", "ddim-logsnr", "-50", "ddim-50-"])
def test_what_is_no_chain_is_none(text):
    assert Chain.named(text) is None
