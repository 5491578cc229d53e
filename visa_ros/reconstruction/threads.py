"""Threads of a reconstruction, which shares its machine with live tracking."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """
    Let torch compute in one thread; the rasterizer's own pool takes all cores.

    The tensors are small, and OpenMP ends each operation when all of its threads have arrived:
    on two cores with a load of 5, two threads made a step of refinement take 5 times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
