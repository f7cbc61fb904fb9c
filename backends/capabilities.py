"""What each backend can do, and each engine under Keras: constants, to be read before any framework is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass

from backends.networks import MLPSettings, NetworkSettings, UNetSettings

ENGINE_VARIABLE, DEFAULT_ENGINE = "KERAS_BACKEND", "tensorflow"


@dataclass(frozen=True)
class Compiling:
    """What compiling a small network was measured to cost and to gain, on one CPU thread.

    `seconds` at the start, and the `share` that it takes off every training step.
    """

    seconds: float
    share: float


@dataclass(frozen=True)
class Capabilities:
    """`packages` are what it needs installed.

    `groups_of`: the kinds of networks that it trains in groups; `cpu_groups_of`: those whose groups were measured to
    be faster on a CPU than one network after another, while the networks are small (`studies.plan.grouping`).
    `compiling_on_cpu`: None where it has no gain there (`studies.plan.compiling`).
    `holds_float64`: whether what is given in float64 is computed in it throughout.
    """

    packages: tuple[str, ...]
    groups_of: tuple[type[NetworkSettings], ...] = ()
    cpu_groups_of: tuple[type[NetworkSettings], ...] = ()
    compiling_on_cpu: Compiling | None = None
    holds_float64: bool = True

    def trains_together(self, settings: NetworkSettings) -> bool:
        """Whether the backend's `make_group_trainer` takes networks of `settings`."""
        return isinstance(settings, self.groups_of)

    def check_dtype(self, dtype: str) -> None:
        """ValueError for a precision that it does not keep."""
        if dtype == "float64" and not self.holds_float64:
            raise ValueError(
                f"{' on '.join(self.packages)} does not compute in float64 throughout; use float32, "
                f"or Keras on another engine ({ENGINE_VARIABLE})"
            )

    def cpu_groups_pay(self, settings: NetworkSettings) -> bool:
        """Whether small networks of this kind were measured to gain from a group on a CPU."""
        return isinstance(settings, self.cpu_groups_of)


TORCH = Capabilities(
    ("torch",), (MLPSettings, UNetSettings), (MLPSettings, UNetSettings), compiling_on_cpu=Compiling(78.0, 0.08)
)

KERAS_ENGINES: dict[str, Capabilities] = {
    # No convolution over a batch of kernels has a gradient everywhere: tensorflow/tensorflow#29005 (grouped ones on a
    # CPU), keras-team/keras#14896 (their backward pass).
    "tensorflow": Capabilities(("keras", "tensorflow"), (MLPSettings,), (MLPSettings,)),
    # Grouped convolutions on a CPU make a group of U-Nets tens of times slower.
    "jax": Capabilities(("keras", "jax"), (MLPSettings, UNetSettings), (MLPSettings,)),
    # Signals are laid out in a way that torch.vmap refuses (keras-team/keras#23587), and operations that ask Keras for
    # the type of their result make float64 float32 (keras-team/keras#23223, #23704).
    "torch": Capabilities(("keras", "torch"), holds_float64=False),
}


def keras_capabilities() -> Capabilities:
    """Those of the engine that KERAS_BACKEND names. ValueError for an unknown one."""
    engine = os.environ.get(ENGINE_VARIABLE, DEFAULT_ENGINE)
    if engine not in KERAS_ENGINES:
        raise ValueError(f"{ENGINE_VARIABLE} is one of {', '.join(KERAS_ENGINES)}, got {engine!r}")
    return KERAS_ENGINES[engine]
