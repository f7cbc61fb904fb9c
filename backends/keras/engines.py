"""What differs between the engines under Keras: compiling a function, and differentiating it.

Shared code writes `function(*arrays)` in which the network is called as usual. Each engine has

- `compiled(function, variables, xla)`: the function compiled; it may assign to `variables`, and to nothing else;
- `differentiated(function, weights)`: arrays -> (result, gradients) for a function returning (scalar, rest), the
  gradients being of the scalar with respect to `weights`; used inside a compiled function.

JAX has no variables of its own: there, Keras's stateless scope hands their values in and takes the new ones out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

Function = Callable[..., Any]


@dataclass(frozen=True)
class Engine:
    """The two functions above for one engine, and how its devices are chosen and named."""

    compiled: Callable[[Function, Sequence[keras.Variable], bool], Function]
    differentiated: Callable[[Function, Sequence[keras.Variable]], Function]
    versions: Callable[[], dict[str, str]]


def _tensorflow() -> Engine:
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)  # or a process takes the whole card

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        return tf.function(function, jit_compile=xla, reduce_retracing=True)

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                values = [weight.value for weight in weights]
                tape.watch(values)
                result = function(*arrays)
            return result, tape.gradient(result[0], values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return run

    return Engine(compiled, differentiated, lambda: {"tensorflow": tf.__version__})


def _jax() -> Engine:
    import jax

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        @jax.jit
        def pure(values: list[Any], *arrays: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
                result = function(*arrays)
            return result, [scope.get_current_value(variable) for variable in variables]

        def run(*arrays: Any) -> Any:
            result, values = pure([variable.value for variable in variables], *arrays)
            for variable, value in zip(variables, values, strict=True):
                variable._value = value  # assign() would copy every array once more
            return result

        return run

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            def of(values: list[Any]) -> Any:
                mapping = list(zip(weights, values, strict=True))
                with keras.StatelessScope(state_mapping=mapping):
                    return function(*arrays)

            result, gradients = jax.value_and_grad(of, has_aux=True)([weight.value for weight in weights])
            return result, gradients

        return run

    return Engine(compiled, differentiated, lambda: {"jax": jax.__version__})


def _torch() -> Engine:
    import torch

    def compiled(function: Function, variables: Sequence[keras.Variable], xla: bool) -> Function:
        return torch.no_grad()(function)

    def differentiated(function: Function, weights: Sequence[keras.Variable]) -> Function:
        def run(*arrays: Any) -> Any:
            with torch.enable_grad():
                result = function(*arrays)
                values = [weight.value for weight in weights]
                gradients = torch.autograd.grad(result[0], values, allow_unused=True, materialize_grads=True)
            detached = (result[0].detach(), tuple(part.detach() for part in result[1]))
            return detached, list(gradients)

        return run

    return Engine(compiled, differentiated, lambda: {"torch": torch.__version__})


_ENGINES = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
ENGINE: Engine = _ENGINES[keras.backend.backend()]()
