"""What differs between the engines under Keras: compiling a function, differentiating it, devices and float64.

Shared code writes `function(*arrays)` in which the network is called as usual. Each engine has

- `compiled(function, variables, xla)`: the function compiled; it may read and assign to `variables`, and to no others;
- `differentiated(function, weights)`: arrays -> (result, gradients) for a function returning (scalar, rest), the
  gradients being of the scalar with respect to `weights`; used inside a compiled function;
- `mapped(function)`: the function for every entry along the first axis of its arguments, at once; used as the last is;
- `pulled_back(function, x, cotangents)`: the value of a function at x, and its gradients there for each cotangent.

JAX has no variables of its own: there, Keras's stateless scope hands their values in and takes the new ones out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from backends.capabilities import KERAS_ENGINES, Capabilities
from core.arrays import Array

Function = Callable[..., Any]
PulledBack = Callable[[Callable[[Array], Array], Array, Sequence[Array]], tuple[Array, list[Array]]]


@dataclass(frozen=True)
class Engine:
    """The functions above for one engine, and what it says of itself.

    `compiler`: what compiled functions run as, in words, for xla off and on. `gpus()`: names of the devices that Keras
    calls gpu:0, gpu:1, ...; `allow_float64()` turns float64 on where it is off. `cpu_doubles_by_transposing`: whether a
    transposed convolution is its faster way of doubling lengths on a CPU (`backends.keras.layers.DoublingConv2D`).
    """

    name: str
    version: str
    compiler: tuple[str, str]
    compiled: Callable[[Function, Sequence[keras.Variable], bool], Function]
    differentiated: Callable[[Function, Sequence[keras.Variable]], Function]
    mapped: Callable[[Function], Function]
    pulled_back: PulledBack
    gpus: Callable[[], list[str]]
    allow_float64: Callable[[], None]
    cpu_doubles_by_transposing: bool

    @property
    def capabilities(self) -> Capabilities:
        return KERAS_ENGINES[self.name]


def _tensorflow() -> Engine:
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    for card in cards:
        tf.config.experimental.set_memory_growth(card, True)  # or a process takes the whole card

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        # No branch here depends on a tensor, so that rewriting the source for one (autograph) would only take time.
        return tf.function(function, jit_compile=xla, reduce_retracing=True, autograph=False)

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                values = [weight.value for weight in weights]
                tape.watch(values)
                result = function(*arrays)
            return result, tape.gradient(result[0], values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return run

    def mapped(function: Function) -> Function:
        return lambda *arrays: tf.vectorized_map(lambda each: function(*each), arrays, fallback_to_while_loop=False)

    def pulled_back(
        function: Callable[[Array], Array], x: Array, cotangents: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = function(x)
        return value, [tape.gradient(value, x, v) for v in cotangents]

    def gpus() -> list[str]:
        return [str(tf.config.experimental.get_device_details(card).get("device_name", card.name)) for card in cards]

    return Engine(
        name="tensorflow",
        version=tf.__version__,
        compiler=("graph", "XLA"),
        compiled=compiled,
        differentiated=differentiated,
        mapped=mapped,
        pulled_back=pulled_back,
        gpus=gpus,
        allow_float64=lambda: None,
        cpu_doubles_by_transposing=True,
    )


def _jax() -> Engine:
    import jax

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        def pure(values: list[Any], *arrays: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
                result = function(*arrays)
            return result, [scope.get_current_value(variable) for variable in variables]

        # Old values are given up, so that a training step needs no second copy of weights and moments.
        jitted = jax.jit(pure, donate_argnums=0)

        def run(*arrays: Any) -> Any:
            result, values = jitted([variable.value for variable in variables], *arrays)
            for variable, value in zip(variables, values, strict=True):
                variable._value = value  # assign() would copy every array once more
            return result

        return run

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            def of(values: list[Any]) -> Any:
                with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
                    return function(*arrays)

            return jax.value_and_grad(of, has_aux=True)([weight.value for weight in weights])

        return run

    def pulled_back(
        function: Callable[[Array], Array], x: Array, cotangents: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        value, pullback = jax.vjp(function, x)
        return value, [pullback(v)[0] for v in cotangents]

    def gpus() -> list[str]:
        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]

    def allow_float64() -> None:
        jax.config.update("jax_enable_x64", True)  # off, JAX rounds float64 to float32 without a word

    return Engine(
        name="jax",
        version=jax.__version__,
        compiler=("jit", "jit"),
        compiled=compiled,
        differentiated=differentiated,
        mapped=jax.vmap,
        pulled_back=pulled_back,
        gpus=gpus,
        allow_float64=allow_float64,
        cpu_doubles_by_transposing=False,
    )


def _torch() -> Engine:
    import torch

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        return torch.no_grad()(function)

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            with torch.enable_grad():
                scalar, rest = function(*arrays)
                values = [weight.value for weight in weights]
                gradients = torch.autograd.grad(scalar, values, allow_unused=True, materialize_grads=True)
            return (scalar.detach(), tuple(part.detach() for part in rest)), list(gradients)

        return run

    def pulled_back(
        function: Callable[[Array], Array], x: Array, cotangents: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = function(x)
            pulled = [torch.autograd.grad(value, x, v, retain_graph=True)[0] for v in cotangents]
        return value.detach(), pulled

    def gpus() -> list[str]:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]

    return Engine(
        name="torch",
        version=torch.__version__,
        compiler=("eager", "eager"),
        compiled=compiled,
        differentiated=differentiated,
        mapped=torch.vmap,
        pulled_back=pulled_back,
        gpus=gpus,
        allow_float64=lambda: None,
        cpu_doubles_by_transposing=False,
    )


_ENGINES = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
ENGINE: Engine = _ENGINES[keras.backend.backend()]()
