"""How fast each attention kernel runs here, forward and with its gradient, on packed segments.

    python benchmarks/attention.py                       # every kernel this machine can run
    python benchmarks/attention.py --flex                # torch's flex attention, forward, compiled

The kernels take turns on the same tensors, so that other work on the machine meets all of them;
each figure is the best of the turns. `ratio` is how many times faster than `sdpa`, which takes
segments through scaled_dot_product_attention: above 1 is faster.
"""

import argparse
import time
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from illada_core.errors import UsageError
from illada_core.model.attention import BACKENDS, Segments, choose_backend, packed_attention

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--flex", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(f"torch {torch.__version__}, {device.type}, {arguments.threads} threads, {arguments}")
    for dtype in (getattr(torch, name) for name in arguments.dtypes):
        shapes = [arguments.heads, arguments.kv_heads, arguments.kv_heads]
        inputs = [
            torch.randn(arguments.tokens, heads, arguments.head_size, device=device, dtype=dtype)
            for heads in shapes
        ]
        if arguments.flex:
            ends = layouts(arguments.tokens)["in segments of 512"]
            kernels = packed_kernels(ends, device, dtype) | {"flex": flex_kernel(ends, device)}
            title = f"{arguments.tokens} tokens in segments of 512"
            print_row(title, dtype, kernels, inputs, arguments.turns, ("forward",))
            continue
        for layout, ends in layouts(arguments.tokens).items():
            kernels = packed_kernels(ends, device, dtype)
            print_row(
                f"{arguments.tokens} tokens {layout}", dtype, kernels, inputs, arguments.turns
            )


def layouts(tokens: int) -> dict[str, tuple[int, ...]]:
    """Return segment ends: equal segments of several lengths, and two ragged mixtures."""
    equal = {
        f"in segments of {length}": tuple(range(length, tokens + 1, length))
        for length in (128, 512, 2048)
    }
    return {
        **equal,
        "in one segment": (tokens,),
        "in 20 to 300": ragged(tokens, 20, 300),
        "in 100 to 1500": ragged(tokens, 100, 1500),
    }


def ragged(tokens: int, shortest: int, longest: int) -> tuple[int, ...]:
    random, ends = Random(0), [0]
    while ends[-1] < tokens:
        ends.append(min(tokens, ends[-1] + random.randint(shortest, longest)))
    return tuple(ends[1:])


def packed_kernels(
    ends: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> dict[str, Kernel]:
    """Return ours, as far as they can run here."""
    segments = Segments.of(ends, device)
    kernels: dict[str, Kernel] = {}
    for name in sorted(BACKENDS, key=lambda name: name != "sdpa"):
        try:
            choose_backend(device, dtype, name)
        except UsageError:
            continue
        kernels[name] = lambda q, k, v, name=name: packed_attention(q, k, v, segments, name)
    return kernels


def flex_kernel(ends: tuple[int, ...], device: torch.device) -> Kernel:
    """Return torch's flex attention, compiled, with a block mask of the segments."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    owner_T = torch.bucketize(torch.arange(ends[-1]), torch.tensor(ends), right=True).to(device)
    mask = create_block_mask(
        lambda batch, head, query, key: owner_T[query] == owner_T[key],
        *(None, None, ends[-1], ends[-1]),
        device=device.type,
    )
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_THK, k_TGK, v_TGK))
        return compiled(q, k, v, block_mask=mask, enable_gqa=True)[0].transpose(0, 1)

    return attend


def print_row(
    title: str,
    dtype: torch.dtype,
    kernels: dict[str, Kernel],
    inputs: list[Tensor],
    turns: int,
    directions: tuple[str, ...] = ("forward", "both"),
) -> None:
    """Time the kernels in turns, and print forward and forward-backward times and ratios."""
    best: dict[tuple[str, str], float] = {}
    weight = torch.randn_like(inputs[0])
    for _ in range(turns):
        for name, kernel in kernels.items():
            for direction in directions:
                leaves = [x.requires_grad_(direction == "both") for x in inputs]
                taken = seconds(kernel, leaves, weight)
                best[name, direction] = min(best.get((name, direction), taken), taken)
    cells = [f"{title}, {str(dtype).removeprefix('torch.')}"]
    for direction in directions:
        yardstick = best["sdpa", direction]
        for name in kernels:
            taken = best[name, direction]
            cells.append(f"{name} {direction} {1e3 * taken:.1f} ms, ratio {yardstick / taken:.2f}")
    print("; ".join(cells), flush=True)


def seconds(kernel: Kernel, inputs: list[Tensor], weight: Tensor) -> float:
    """Time one call, and its gradient if the inputs ask for it."""
    synchronize(weight.device)
    start = time.perf_counter()
    out = kernel(*inputs)
    if out.requires_grad:
        torch.autograd.grad(out, inputs, weight)
    synchronize(weight.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
