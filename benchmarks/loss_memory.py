"""Measure what the loss and its backward add in memory, and how fast they are, on a CPU.

    python benchmarks/loss_memory.py [--tokens 8192 --vocabulary 155136 --width 1024]

Four ways to the same gradients of the hidden rows and the head: ours (chunks, gradients taken in
the forward pass), the same chunks recomputed in the backward pass (torch's checkpointing), all
hidden rows at once, and the logits of every token as LLaDA's published rule has them. Each runs
in a process of its own, so that the peak of its resident memory is its own. Counted is what the
peak has over inputs, float32 head and its gradient.

Shapes: T packed tokens, M hidden tokens, V vocabulary, C channels.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from illada_core.diffusion.loss import CHUNK_ROWS, masked_cross_entropy

GB = 10**9


def ours(states_TC: Tensor, head_VC: Tensor, hidden_M: Tensor, targets_M: Tensor) -> Tensor:
    weights_M = torch.ones(len(hidden_M))
    return masked_cross_entropy(states_TC[hidden_M], head_VC, targets_M, weights_M)[0]


def nll_sum(states_MC: Tensor, head_VC: Tensor, targets_M: Tensor) -> Tensor:
    logits_MV = F.linear(states_MC, head_VC.to(states_MC.dtype))
    return F.cross_entropy(logits_MV.float(), targets_M, reduction="sum")


def recomputed(states_TC: Tensor, head_VC: Tensor, hidden_M: Tensor, targets_M: Tensor) -> Tensor:
    states_MC, total = states_TC[hidden_M], torch.zeros(())
    for states, targets in zip(
        states_MC.split(CHUNK_ROWS), targets_M.split(CHUNK_ROWS), strict=True
    ):
        total = total + checkpoint(nll_sum, states, head_VC, targets, use_reentrant=False)
    return total


def at_once(states_TC: Tensor, head_VC: Tensor, hidden_M: Tensor, targets_M: Tensor) -> Tensor:
    return nll_sum(states_TC[hidden_M], head_VC, targets_M)


def all_tokens(states_TC: Tensor, head_VC: Tensor, hidden_M: Tensor, targets_M: Tensor) -> Tensor:
    logits_TV = F.linear(states_TC, head_VC.to(states_TC.dtype))
    return F.cross_entropy(logits_TV[hidden_M].float(), targets_M, reduction="sum")


WAYS = {each.__name__: each for each in (ours, recomputed, at_once, all_tokens)}


def measure(way: str, asked: argparse.Namespace) -> dict[str, float]:
    """Run one way in this process; return the GB it added, its seconds and its loss."""
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, asked.dtype)
    states_TC = torch.randn(asked.tokens, asked.width, dtype=dtype).requires_grad_()
    head_VC = torch.empty(asked.vocabulary, asked.width).normal_(0, 0.02).requires_grad_()
    head_VC.grad = torch.zeros_like(head_VC).fill_(0.0)  # the parameter's own gradient, resident
    hidden_M = torch.randperm(asked.tokens)[: asked.tokens // 2].sort()[0]
    targets_M = torch.randint(asked.vocabulary, (len(hidden_M),))
    (states_TC[:64].detach() @ states_TC[:64].detach().t()).sum()  # loads the kernels
    before = peak_bytes()
    began = time.perf_counter()
    total = WAYS[way](states_TC, head_VC, hidden_M, targets_M)
    total.backward()
    seconds = time.perf_counter() - began
    return {"GB": (peak_bytes() - before) / GB, "seconds": seconds, "loss": total.item()}


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=155_136)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(asked.child, asked)))
        return
    print(f"T = {asked.tokens}, half of them hidden, V = {asked.vocabulary}, C = {asked.width}")
    for way in asked.ways:
        command = [sys.executable, *sys.argv, "--child", way]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        adds, nll = f"adds {found['GB']:5.2f} GB", found["loss"] / (asked.tokens // 2)
        print(f"{asked.dtype:8} {way:10} {adds}, {found['seconds']:6.2f} s, loss {nll:.5f}")


if __name__ == "__main__":
    main()
