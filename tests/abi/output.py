import warnings
from typing import Dict, List

import torch


def shows(x: torch.Tensor, n: int) -> int:
    print("x:", x, [1.0, 0.5], n)
    counts: Dict[str, List[int]] = {"a": [1, 2]}
    print(counts, (n, None, True))
    warnings.warn("take care")
    return n


def forward(x: torch.Tensor, n: int) -> int:
    f = torch.jit.fork(shows, x, n)
    if n > 2:
        part = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
        raise ValueError("too large: " + part + part + part)
    return torch.jit.wait(f)
