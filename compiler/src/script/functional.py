from typing import List, Optional, Tuple, Union

import torch
from torch import Tensor


def tensordot(a: Tensor, b: Tensor, dims: Union[int, List[List[int]], Tuple[List[int], List[int]]] = 2,
              out: Optional[Tensor] = None) -> Tensor:
    dims_a: List[int] = []
    dims_b: List[int] = []
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError("tensordot expects dims >= 0, but got dims={}".format(dims))
        dims_a = list(range(-dims, 0))
        dims_b = list(range(dims))
    elif isinstance(dims, Tuple[List[int], List[int]]):
        dims_a, dims_b = dims
    else:
        dims_a = dims[0]
        dims_b = dims[1]
    if out is None:
        return torch.ops.aten.tensordot(a, b, dims_a, dims_b)
    else:
        return torch.ops.aten.tensordot(a, b, dims_a, dims_b, out=out)
