"""The constants of the networks as published, in literal numbers; what is made of them is in `contract/network.py`."""

from __future__ import annotations

import numpy as np
import pytest

from backends.networks import NORM_EPSILON, MLPSettings, UNetSettings, initial_weights, time_frequencies


def test_time_frequencies_fall_from_1_to_a_ten_thousandth():
    """Ho et al. (2020), their code: 10,000^(-k / (K - 1)), both ends included; one frequency alone is 1."""
    expected = [1.0, 0.046415888336127789, 0.0021544346900318837, 1e-4]
    np.testing.assert_allclose(time_frequencies(8), expected, rtol=1e-14)
    assert time_frequencies(2).tolist() == [1.0]


def test_group_norm_has_the_papers_epsilon():
    assert NORM_EPSILON == 1e-6


@pytest.mark.parametrize(
    ("settings", "name", "limit"),
    [
        (MLPSettings((2,), width=256, depth=1), "blocks.0.linear_1.weight", (6 / 512) ** 0.5),
        (MLPSettings((2,), width=256, depth=1, time_features=64), "blocks.0.time_proj.weight", (6 / 384) ** 0.5),
        (UNetSettings((8, 8, 1), widths=(64, 96)), "down_blocks.1.resnets.0.conv1.weight", (6 / 1440) ** 0.5),
        (UNetSettings((8, 1), widths=(64, 96)), "down_blocks.1.resnets.0.conv1.weight", (6 / 480) ** 0.5),
    ],
)
def test_weights_start_uniform_with_variance_2_over_fan_in_and_fan_out(settings, name, limit):
    """A fan is channels times the kernel's size. Of 18,432 or more draws the largest is within 0.1 % of the limit, and
    their variance within 5 sd, of 0.9 / sqrt(draws) each: false alarms below 1e-6, and the seed is fixed.
    """
    weight = initial_weights(settings, seed=0)[name]
    assert weight.size >= 18_432
    assert 0.999 * limit < np.abs(weight).max() <= limit
    assert weight.var() == pytest.approx(limit**2 / 3, rel=5 * 0.9 / weight.size**0.5)


def test_the_last_layer_of_a_branch_and_of_the_network_starts_at_0():
    """And so does every bias; every scale of a norm at 1; nothing else is constant."""
    mlp = initial_weights(MLPSettings((2,), width=16, depth=2), 0)
    unet = initial_weights(UNetSettings((8, 8, 1), widths=(8, 16), attention_levels=(1,), norm_groups=4), 0)
    for weights, last in ((mlp, ("linear_2.weight", "linear_out.weight")), (unet, ("conv2.weight", "to_out.0.weight"))):
        for name, w in weights.items():
            is_last = name.endswith(last) and not name.startswith("time_embedding")
            if is_last or name.endswith("bias") or name == "conv_out.weight":
                assert not w.any(), name
            elif "norm" in name:
                assert np.all(w == 1), name
            else:
                assert np.ptp(w) > 0, name


@pytest.mark.parametrize("level", [-1, 2, 5])
def test_attention_is_refused_where_there_is_no_level(level):
    with pytest.raises(ValueError, match=f"from 0, the finest, to 1, got {level}$"):
        UNetSettings((8, 8, 1), widths=(8, 16), attention_levels=(1, level))
