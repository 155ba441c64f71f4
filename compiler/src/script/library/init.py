import math
import torch
from torch import Tensor
from typing import Literal, Optional

_FanMode = Literal["fan_in", "fan_out"]
_NonlinearityType = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


# line 173
def calculate_gain(
    nonlinearity: _NonlinearityType, param: int | float | None = None
) -> float:
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    return 1


# line 247
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Optional[torch.Generator] = None) -> Tensor:
    return torch._no_grad_uniform_(tensor, a, b, generator)


# line 274
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Optional[torch.Generator] = None) -> Tensor:
    return torch._no_grad_normal_(tensor, mean, std, generator)


# line 337
def constant_(tensor: Tensor, val: float) -> Tensor:
    return torch._no_grad_fill_(tensor, val)


# line 355
def ones_(tensor: Tensor) -> Tensor:
    return torch._no_grad_fill_(tensor, 1.0)


# line 368
def zeros_(tensor: Tensor) -> Tensor:
    return torch._no_grad_zero_(tensor)


# line 381
def eye_(tensor):
    tensor.zero_()
    for i in range(min(tensor.shape[0], tensor.shape[1])):
        tensor[i, i] = 1
    return tensor


# line 402
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    # line 418
    dimensions = tensor.ndimension()
    if dimensions not in [3, 4, 5]:
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    sizes = tensor.size()
    if sizes[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    out_channels = sizes[0] // groups
    tensor.zero_()
    for group in range(groups):
        for channel in range(min(out_channels, sizes[1])):
            at = group * out_channels + channel
            if dimensions == 3:
                tensor[at, channel, sizes[2] // 2] = 1
            elif dimensions == 4:
                tensor[at, channel, sizes[2] // 2, sizes[3] // 2] = 1
            else:
                tensor[at, channel, sizes[2] // 2, sizes[3] // 2, sizes[4] // 2] = 1
    return tensor


# line 458
def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    dimensions = tensor.dim()
    if dimensions < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    num_input_fmaps = tensor.size(1)
    num_output_fmaps = tensor.size(0)
    receptive_field_size = 1
    if tensor.dim() > 2:
        for s in tensor.shape[2:]:
            receptive_field_size *= s
    fan_in = num_input_fmaps * receptive_field_size
    fan_out = num_output_fmaps * receptive_field_size
    return fan_in, fan_out


# line 479
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Optional[torch.Generator] = None) -> Tensor:
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    a = math.sqrt(3.0) * std
    return torch._no_grad_uniform_(tensor, -a, a, generator)


# line 512
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Optional[torch.Generator] = None) -> Tensor:
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    return torch._no_grad_normal_(tensor, 0.0, std, generator)


# line 543
def _kaiming_std(tensor, a, mode, nonlinearity):
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    fan = fan_in if mode.lower() == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


# line 554
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: _FanMode = "fan_in",
    nonlinearity: _NonlinearityType = "leaky_relu",
):
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor.uniform_(-bound, bound)


# line 619
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: _FanMode = "fan_in",
    nonlinearity: _NonlinearityType = "leaky_relu",
):
    if 0 in tensor.shape:
        return tensor
    return tensor.normal_(0.0, _kaiming_std(tensor, a, mode, nonlinearity))


# line 672
def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    # line 694
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.size(0)
    columns = tensor.numel() // rows
    drawn = torch.empty(rows, columns).normal_(0, 1)
    if rows < columns:
        drawn = drawn.t()
    q, r = torch.linalg.qr(drawn)
    q = q * torch.diag(r, 0).sign()
    if rows < columns:
        q = q.t()
    return tensor.copy_(q.reshape(tensor.shape)).mul_(gain)
