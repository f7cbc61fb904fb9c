"""Batches of evaluations: by memory and the network's size, at most 256 on a CPU."""

from __future__ import annotations

import itertools
import os

import pytest

from backends.flops import attention_scores, layer_outputs
from backends.networks import MLPSettings, UNetSettings
from studies.plan import batches, machine
from studies.throughput.workloads import CIFAR10

DIGITS = UNetSettings((8, 8, 1), (16, 32))
GIGABYTE = 2**30


def with_driver(folder, monkeypatch, script: str) -> None:
    """An nvidia-smi of our own, and no other."""
    driver = folder / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\n{script}\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_cpu_takes_256(monkeypatch):
    monkeypatch.setattr(batches, "gpu_memory", lambda: 80 * GIGABYTE)
    monkeypatch.setattr(batches, "cpu_memory", lambda: 20 * GIGABYTE)
    assert batches.evaluation_batch(CIFAR10, "cpu") == 256
    assert batches.evaluation_batch(DIGITS, "cpu") == 256
    monkeypatch.setattr(batches, "cpu_memory", lambda: None)
    assert batches.evaluation_batch(DIGITS, "cpu") == 256


def test_a_cpu_takes_what_holds_its_scores(monkeypatch):
    """2 x 16,384^2 scores take 2 GiB an example; half of 9 GiB holds 2, and never none."""
    long = UNetSettings((32_768, 1), (8, 8), norm_groups=4)
    assert attention_scores(long) == 16_384**2
    assert attention_scores(UNetSettings((8, 16, 3), (8, 16, 16), 2, (0, 2))) == 5 * 128**2 + 6 * 8**2
    monkeypatch.setattr(batches, "cpu_memory", lambda: 9 * GIGABYTE)
    assert batches.evaluation_batch(long, "cpu") == 2
    monkeypatch.setattr(batches, "cpu_memory", lambda: GIGABYTE)
    assert batches.evaluation_batch(long, "cpu") == 1


def test_memory_is_the_computers_or_its_containers():
    assert 2**28 < machine.cpu_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_gpu_takes_what_it_holds(monkeypatch):
    """Twice the memory holds twice the batch, up to one that fills any card; large networks take small ones."""
    found = []
    for gigabytes in (4, 8, 16, 32, 64):
        monkeypatch.setattr(batches, "gpu_memory", lambda gigabytes=gigabytes: gigabytes * GIGABYTE)
        found.append(batches.evaluation_batch(CIFAR10, "cuda"))
        assert 4 * found[-1] * layer_outputs(CIFAR10) <= gigabytes * GIGABYTE / 8
        assert batches.evaluation_batch(DIGITS, "cuda") == batches.MOST
    assert [b / a for a, b in itertools.pairwise(found)] == [2] * 4


def test_a_device_that_does_not_tell_its_memory_takes_256(monkeypatch):
    monkeypatch.setattr(batches, "gpu_memory", lambda: None)
    assert batches.evaluation_batch(DIGITS, "mps") == 256


def test_memory_is_that_of_the_smallest_card(tmp_path, monkeypatch):
    with_driver(tmp_path, monkeypatch, "echo 81559; echo 40960")
    assert machine.gpu_memory() == 40960 * 2**20


@pytest.mark.parametrize("script", ["exit 9", "echo '[Not Supported]'", "true"])
def test_a_driver_without_an_answer_is_no_error(tmp_path, monkeypatch, script):
    with_driver(tmp_path, monkeypatch, script)
    assert machine.gpu_memory() is None


@pytest.mark.torch
@pytest.mark.parametrize("settings", [DIGITS, MLPSettings((2,)), UNetSettings((8, 16, 3), (8, 16, 16), 2, (0, 2))])
def test_layer_outputs_are_those_of_the_layers(settings):
    import torch

    from backends.torch.network import MLP, UNet

    seen = []
    with torch.device("meta"):
        network = UNet(settings) if isinstance(settings, UNetSettings) else MLP(settings)
        for module in network.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.register_forward_hook(lambda module, inputs, output: seen.append(output.numel()))
        network(torch.empty(1, *settings.shape), torch.ones(1))
    assert sum(seen) == layer_outputs(settings)
