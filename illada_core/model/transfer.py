"""What goes from the host to a device, and back, while nobody waits."""

from dataclasses import dataclass

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a host's tensor on a device, which goes on with what it was asked before.

    Only pinned memory is copied so: for any other the host waits until the device has done it all.
    """
    if tensor.is_cuda or torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Fetched:
    """Numbers on their way to the host: there once the device has come to them."""

    numbers: Tensor
    arrived: torch.cuda.Event | None

    @staticmethod
    def of(numbers: Tensor) -> "Fetched":
        """Ask for the numbers of a tensor, behind all that its device was asked before."""
        if numbers.device.type != "cuda":
            return Fetched(numbers, None)
        fetched, arrived = numbers.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record()
        return Fetched(fetched, arrived)

    @property
    def is_here(self) -> bool:
        """Whether they can be read without waiting."""
        return self.arrived is None or self.arrived.query()

    def read(self) -> Tensor:
        """Wait for the numbers, and return them on the host."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.numbers
