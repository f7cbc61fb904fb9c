"""The peers as their users run them: a plain PyTorch loop around each library's network, optimiser and sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.interface import Execution
from backends.networks import UNetSettings
from studies.throughput.blocks import CHAIN, Blocks, examples, model_flops, waiting
from studies.throughput.workloads import Workload


def _unet(workload: Workload) -> UNetSettings:
    if not isinstance(workload.network, UNetSettings) or workload.network.spatial_dims != 2:
        raise ValueError("the peers are raced on images (H, W, C), with a U-Net")
    return workload.network


def diffusers_unet(s: UNetSettings) -> Any:
    """The `UNet2DModel` that is our U-Net of these settings."""
    from diffusers import UNet2DModel

    attends = [level in s.attention_levels for level in range(len(s.widths))]
    return UNet2DModel(
        sample_size=s.shape[0],
        in_channels=s.in_channels,
        out_channels=s.out_channels,
        block_out_channels=s.widths,
        layers_per_block=s.blocks_per_level,
        norm_num_groups=s.norm_groups,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        add_attention=s.mid_attention,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        norm_eps=1e-6,
        act_fn="silu",
    )


def diffusers(workload: Workload, execution: Execution) -> Blocks:
    """diffusers: `UNet2DModel` of the same weights, `DDPMScheduler`, `EMAModel`, PyTorch's Adam and clipping."""
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    from backends.torch.arrays import choose_device

    device = choose_device(execution.device)
    model = diffusers_unet(_unet(workload)).to(device)
    average = EMAModel(model.parameters(), decay=0.999)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler: Any = DDPMScheduler(workload.num_steps, clip_sample=False)

    def predict(x_t: Any, t: Any) -> Any:
        return model(x_t, t).sample

    run = torch.compile(predict, dynamic=False) if execution.compile else predict

    def step(x_0: Any) -> None:
        epsilon = torch.randn_like(x_0)
        t = torch.randint(0, workload.num_steps, (len(x_0),), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=execution.dtype == "bfloat16"):
            loss = torch.nn.functional.mse_loss(run(scheduler.add_noise(x_0, epsilon, t), t), epsilon)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.step(model.parameters())

    def chain(x: Any) -> Any:
        scheduler.set_timesteps(CHAIN)
        for t in scheduler.timesteps:
            x = scheduler.step(run(x, t.to(device)), t, x).prev_sample
        return x

    return _blocks(workload, execution, model, run, step, chain)


def denoising_diffusion_pytorch(workload: Workload, execution: Execution) -> Blocks:
    """denoising-diffusion-pytorch: `Unet` of the same widths, `GaussianDiffusion`, Adam, clipping and `EMA`.

    Its U-Net has two blocks a level and linear attention at every level, so that its weights are more than ours.
    """
    import torch
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    from backends.torch.arrays import choose_device

    settings, device = _unet(workload), choose_device(execution.device)
    multiples = tuple(width // settings.widths[0] for width in settings.widths)
    model = Unet(dim=settings.widths[0], dim_mults=multiples, channels=settings.in_channels).to(device)
    if execution.compile:
        model.forward = torch.compile(model.forward, dynamic=False)
    diffusion = GaussianDiffusion(
        model,
        image_size=settings.shape[:2],
        timesteps=workload.num_steps,
        sampling_timesteps=CHAIN,
        objective="pred_noise",
        beta_schedule="linear",
        auto_normalize=False,
    ).to(device)
    average = EMA(diffusion, beta=0.999, update_every=1)
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=1e-3)

    def step(x_0: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=execution.dtype == "bfloat16"):
            loss = diffusion(x_0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update()

    def chain(x: Any) -> Any:
        return _quietly(diffusion.ddim_sample, tuple(x.shape))

    return _blocks(workload, execution, model, model, step, chain)


def _blocks(
    workload: Workload,
    execution: Execution,
    model: Any,
    predict: Callable[[Any, Any], Any],
    step: Callable[[Any], None],
    chain: Callable[[Any], Any],
) -> Blocks:
    """The blocks of a peer, from its prediction, training step and sampling chain of CHAIN steps."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device

    def images(count: int) -> Any:
        x = np.moveaxis(examples(workload, count), -1, 1)
        return torch.tensor(np.ascontiguousarray(x), dtype=torch.float32, device=device)

    data, x_t = images(4 * workload.batch), images(workload.evaluation_batch)
    network_t = torch.arange(len(x_t), device=device) % workload.num_steps
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x_t[:1], network_t[:1])
    cast = torch.autocast(device.type, torch.bfloat16, enabled=execution.dtype == "bfloat16")

    wait = waiting(device)

    def train(count: int) -> int:
        for _ in range(count):
            step(data[torch.randint(0, len(data), (workload.batch,), device=device)])
        wait()
        return count

    def network(count: int) -> int:
        with torch.no_grad(), cast:
            for _ in range(count):
                predict(x_t, network_t)
        wait()
        return count

    def sample(count: int) -> int:
        chains = max(1, round(count / CHAIN))
        with torch.no_grad(), cast:
            for _ in range(chains):
                chain(torch.randn_like(x_t))
        wait()
        return chains * CHAIN

    return Blocks(
        {"train": train, "network": network, "sample": sample},
        model_flops(float(counter.get_total_flops()), workload),
        sum(weight.numel() for weight in model.parameters()),
        {"framework": "PyTorch", "version": torch.__version__, "device": device.type},
    )


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function that shows a progress bar on standard error, without it."""
    import contextlib
    import io

    with contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)
