"""The machine's matrix-multiply rate in float32, with the threads that OMP_NUM_THREADS gives: one JSON line, GFLOP/s of each shape.

    OMP_NUM_THREADS=2 python bench/training/matmul.py [seconds]
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

SHAPES = {"layer": (512, 576, 1536), "large": (2048, 2048, 2048)}
"""(rows, inner, columns): a layer of SmolLM2-135M on 512 tokens; and one large enough that nothing but the multiplication counts."""


def rate(rows: int, inner: int, columns: int, seconds: float) -> float:
    """Operations a second: the median over blocks of products of about 50 ms."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    operations = 2 * rows * inner * columns
    torch.mm(a, b)
    started = time.perf_counter()
    torch.mm(a, b)
    block = max(1, round(0.05 / max(time.perf_counter() - started, 1e-6)))
    rates = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rates) < 3:
        started = time.perf_counter()
        for _ in range(block):
            torch.mm(a, b)
        rates.append(block * operations / (time.perf_counter() - started))
    return statistics.median(rates)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.6
    print(json.dumps({name: rate(*shape, seconds=seconds) for name, shape in SHAPES.items()}))


if __name__ == "__main__":
    main()
