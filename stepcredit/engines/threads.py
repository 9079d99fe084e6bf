"""Threads of the torch engines: one a worker where several work side by side, all cores where one works alone."""

import torch


def use_threads(count: int) -> None:
    """Let torch use `count` threads in this process; results depend on the count in their last bits."""
    torch.set_num_threads(count)
