"""This machine as a kind of device that a plan is counted for."""

import os

import torch

from illada_core.model.stored import DTYPES
from illada_core.training.health import Trial, matrix_rate
from illada_core.training.memory import device_bytes
from illada_core.training.metrics import device_name
from illada_core.training.parallel import choose_device
from illada_core.training.recipe.keys import RunKeys
from illada_core.training.recipe.plan import DeviceKind, known_kind

SIZE, PRODUCTS, ROUNDS = 2048, 1, 5  # what is multiplied takes half a second on two cores


def this_machine(keys: RunKeys) -> DeviceKind:
    """Return the device of a run as a kind: one that is known, else by what it is measured at.

    The peak is then the rate of square products in the dtype that the run computes in.
    """
    device = choose_device(keys.device, 0)
    name = device_name(device)
    if known := known_kind(name):
        return known
    if keys.threads:
        torch.set_num_threads(keys.threads)
    trial = Trial(SIZE, DTYPES[keys.compute_dtype], PRODUCTS, ROUNDS, 0, 0.0)
    if device.type == "cpu":
        name = f"CPU of {os.cpu_count()} cores"
    return DeviceKind(matrix_rate(trial, device), device_bytes(device), name=name)
