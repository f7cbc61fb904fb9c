"""The networks as functions: against a written-out MLP, between dimensions, and by their weights."""

from __future__ import annotations

import numpy as np
import pytest

from backends.interface import Execution
from backends.networks import MLPSettings, UNetSettings, initial_weights, weight_specs
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT32, FLOAT64, mlp_by_hand, mlp_settings, random_weights, unet_settings

VARIANCE_OF = {False: "beta_tilde", True: "learned_range"}
UNETS = [
    UNetSettings((8, 8, 3), widths=(8, 16), blocks_per_level=2, attention_levels=(1,), norm_groups=4),
    UNetSettings((8, 4, 1), widths=(8, 8, 16), mid_attention=False, norm_groups=2, learns_variance=True),
    UNetSettings((16, 2), widths=(8, 16), attention_levels=(0, 1), norm_groups=4),
]


class NetworkContract(Contract):
    """Each network is the one described, holds the neutral weights, and says what it cannot do."""

    def test_mlp_is_the_one_described(self):
        """h += linear_2(silu(linear_1(silu(h)) + time_proj(time))), written out in numpy."""
        settings = MLPSettings((3,), width=16, depth=2, time_features=8, learns_variance=True)
        w = random_weights(settings)
        x, t = np.random.default_rng(1).standard_normal((5, 3)), np.array([1, 2, 30, 400, 1000])
        network = self.backend.make_network(settings, w, FLOAT64)
        np.testing.assert_allclose(self.call(network, x, t), mlp_by_hand(settings, w, x, t), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(("execution", "tolerance"), [(FLOAT32, 1e-5), (FLOAT64, 1e-9)])
    def test_steps_of_the_longest_chains(self, execution, tolerance):
        """As far as the phase can be rounded: at a million radians float64 has 1e-10."""
        settings = MLPSettings((3,), width=16, depth=2, time_features=8)
        w = random_weights(settings)
        t = np.array([65_536, 65_537, 131_073, 700_001, 1_000_000])
        x = np.random.default_rng(1).standard_normal((len(t), 3))
        output = self.call(self.backend.make_network(settings, w, execution), x, t)
        np.testing.assert_allclose(output, mlp_by_hand(settings, w, x, t), rtol=0, atol=tolerance)

    @pytest.mark.parametrize("learns_variance", [False, True])
    def test_a_placed_model_s_forward_is_its_network(self, learns_variance, monkeypatch):
        """On a chain respaced to 10 steps of 100 the network is called with its own 10, ..., 100; however often."""
        settings = mlp_settings(learns_variance)
        process = reverse_process(linear(100).respaced(range(10, 101, 10)), variance=VARIANCE_OF[learns_variance])
        w = random_weights(settings)
        model = self.backend.place(self.backend.make_network(settings, w, FLOAT64), process, FLOAT64)
        x_t, t = np.random.default_rng(1).standard_normal((3, 3)), np.array([1, 4, 10])
        evaluate, evaluated = model.evaluate, []
        monkeypatch.setattr(model, "evaluate", lambda *arrays: evaluated.append(1) or evaluate(*arrays))
        expected, forward = mlp_by_hand(settings, w, x_t, 10 * t), model.forward()
        for times in (1, 3):
            evaluated.clear()
            np.testing.assert_allclose(forward(x_t, t, times), expected, rtol=1e-12, atol=1e-12)
            assert len(evaluated) == times

    def test_a_model_on_another_process_is_the_same_network_there(self):
        process = reverse_process(linear(100))
        respaced = reverse_process(linear(100).respaced(range(10, 101, 10)))
        network = self.small_network(process, FLOAT64)
        moved = self.backend.place(network, process, FLOAT64).on(respaced)
        fresh = self.backend.place(network, respaced, FLOAT64)
        assert (moved.network, moved.process) == (network, respaced)
        x_t, t = np.random.default_rng(1).standard_normal((3, 3)), np.array([1, 4, 10])
        np.testing.assert_array_equal(moved.forward()(x_t, t), fresh.forward()(x_t, t))

    @pytest.mark.parametrize(
        ("shape", "t", "times", "message"),
        [
            ((2, 3), [1, 11], 1, "steps run from 1 to 10, got 11"),
            ((2, 3), [0, 1], 1, "steps run from 1 to 10, got 0; step 0 is the data"),
            ((2, 4), [1, 2], 1, r"x_t has shape \(2, 3\) and t \(2,\) for this network, got \(2, 4\) and \(2,\)"),
            ((2, 3), [1], 1, r"got \(2, 3\) and \(1,\)"),
            ((2, 3), [1, 2], 0, "the network is evaluated at least once, got times=0"),
        ],
    )
    def test_a_forward_of_something_else_is_a_one_line_error(self, shape, t, times, message):
        process = reverse_process(linear(10))
        forward = self.backend.place(self.small_network(process, FLOAT32), process, FLOAT32).forward()
        with pytest.raises(ValueError, match=message) as caught:
            forward(np.zeros(shape), np.array(t), times)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("attention", [(), (0,), (0, 1)])
    def test_unet_over_series_is_the_one_over_images_that_do_not_vary_along_their_width(self, attention):
        """A 1-D kernel in the middle column of a 2-D one sees the same numbers in every column."""
        line = UNetSettings((8, 2), widths=(8, 16), attention_levels=attention, norm_groups=4)
        plane = UNetSettings((8, 4, 2), widths=(8, 16), attention_levels=attention, norm_groups=4)
        w = random_weights(line)
        wide = {}
        for name, spec in weight_specs(plane).items():
            wide[name] = np.zeros(spec.shape)
            wide[name][..., spec.shape[-1] // 2 if len(spec.shape) == 4 else slice(None)] = w[name]
        x, t = np.random.default_rng(1).standard_normal((3, 8, 2)), np.array([1, 50, 1000])
        one = self.call(self.backend.make_network(line, w, FLOAT64), x, t)
        two = self.call(self.backend.make_network(plane, wide, FLOAT64), np.repeat(x[:, :, None], 4, axis=2), t)
        np.testing.assert_allclose(two, np.repeat(one[:, :, None], 4, axis=2), rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("settings", [*UNETS, mlp_settings()])
    @pytest.mark.parametrize("execution", [FLOAT32, FLOAT64])
    def test_weights_come_back_as_they_went_in(self, settings, execution):
        """In C order and in the dtype of the execution; bit for bit in float64."""
        w = initial_weights(settings, seed=3)
        back = self.backend.export_weights(self.backend.make_network(settings, w, execution))
        assert back.keys() == w.keys()
        for name, array in back.items():
            assert array.flags.c_contiguous
            assert array.dtype == execution.dtype
            np.testing.assert_array_equal(array, w[name].astype(execution.dtype))

    @pytest.mark.parametrize("settings", UNETS)
    def test_output_has_the_input_shape_and_the_output_channels(self, settings):
        network = self.backend.make_network(settings, initial_weights(settings, 0), FLOAT32)
        x = np.random.default_rng(0).standard_normal((2, *settings.shape))
        output = self.call(network, x, np.array([1, 7]))
        assert output.shape == (2, *settings.shape[:-1], settings.out_channels)
        assert not output.any()  # the last layer starts at zero

    def test_weights_of_another_network_are_refused(self):
        w = initial_weights(unet_settings(), 0)
        with pytest.raises(ValueError, match="belong to another network"):
            self.backend.make_network(mlp_settings(), w, FLOAT32)

    @pytest.mark.parametrize(
        ("execution", "message"),
        [
            (Execution(device="abacus"), "no device 'abacus' here"),
            (Execution(device="cuda:99"), "no device 'cuda:99' here"),
            (Execution(device="cpu", dtype="float16"), "unknown dtype 'float16'; known: float32, float64, bfloat16"),
        ],
    )
    def test_unknown_executions_are_one_line_errors(self, execution, message):
        with pytest.raises(ValueError, match=message) as caught:
            self.backend.make_network(mlp_settings(), initial_weights(mlp_settings(), 0), execution)
        assert "\n" not in str(caught.value)
