"""The training recipe that both frameworks follow to the letter, so that a difference between them is not a default's.

- Adam (Kingma & Ba 2015, Algorithm 1): update = rate * m_hat / (sqrt(v_hat) + adam_epsilon), epsilon outside the
  bias correction, as PyTorch has it and Keras has not.
- The gradient is clipped by its global norm: multiplied by min(1, clip_norm / (norm + 1e-6)).
- The rate rises linearly over `warmup_steps` and then falls along a half cosine to `final_rate_fraction` of its peak.
- The exponential moving average of the weights is updated after every step with decay min(ema_decay, (1 + k) /
  (10 + k)) after
  k steps, so that the initial weights are forgotten within the first few; it starts as a copy of the initial weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CLIP_EPSILON = 1e-6


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of the recipe above. `num_steps` is where the rate's decay ends; `clip_norm` None turns clipping off."""

    num_steps: int = 3000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    final_rate_fraction: float = 0.0
    clip_norm: float | None = 1.0
    ema_decay: float = 0.999
    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_epsilon: float = 1e-8

    def learning_rate_at(self, step: int) -> float:
        """The rate of step 1, 2, ..., num_steps."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        past = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, past)))
        return self.learning_rate * (self.final_rate_fraction + (1 - self.final_rate_fraction) * cosine)

    def ema_decay_at(self, step: int) -> float:
        """The share of the old average kept after step 1, 2, ..."""
        return min(self.ema_decay, (1 + step) / (10 + step))
