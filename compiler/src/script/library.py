import torch
from typing import List, Optional
from torch import Tensor


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    if inplace:
        result = torch.relu_(input)
    else:
        result = torch.relu(input)
    return result


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if p < 0.0 or p > 1.0:
        raise ValueError("dropout probability has to be between 0 and 1, but got {}".format(p))
    if inplace:
        result = torch.dropout_(input, p, training)
    else:
        result = torch.dropout(input, p, training)
    return result


def softmax(input: Tensor, dim: Optional[int] = None, _stacklevel: int = 3, dtype: Optional[int] = None) -> Tensor:
    if dim is None:
        if input.dim() == 0 or input.dim() == 1 or input.dim() == 3:
            axis = 0
        else:
            axis = 1
    else:
        axis = dim
    return torch.softmax(input, axis, dtype)


def log_softmax(input: Tensor, dim: Optional[int] = None, _stacklevel: int = 3, dtype: Optional[int] = None) -> Tensor:
    if dim is None:
        if input.dim() == 0 or input.dim() == 1 or input.dim() == 3:
            axis = 0
        else:
            axis = 1
    else:
        axis = dim
    return torch.log_softmax(input, axis, dtype)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    if inplace:
        result = torch.leaky_relu_(input, negative_slope)
    else:
        result = torch.leaky_relu(input, negative_slope)
    return result


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    if inplace:
        result = torch.elu_(input, alpha)
    else:
        result = torch.elu(input, alpha)
    return result


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    if inplace:
        result = torch.hardtanh_(input, min_val, max_val)
    else:
        result = torch.hardtanh(input, min_val, max_val)
    return result


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    if inplace:
        return torch.silu_(input)
    return torch.silu(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    if inplace:
        return torch.hardswish_(input)
    return torch.hardswish(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    if inplace:
        return torch.hardsigmoid_(input)
    return torch.hardsigmoid(input)


def sigmoid(input: Tensor) -> Tensor:
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    return input.tanh()


def layer_norm(input: Tensor, normalized_shape: List[int], weight: Optional[Tensor] = None,
               bias: Optional[Tensor] = None, eps: float = 1e-05) -> Tensor:
    return torch.layer_norm(input, normalized_shape, weight, bias, eps)


def batch_norm(input: Tensor, running_mean: Optional[Tensor], running_var: Optional[Tensor],
               weight: Optional[Tensor] = None, bias: Optional[Tensor] = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-05) -> Tensor:
    return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, True)


def mse_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
             reduction: str = "mean") -> Tensor:
    if reduction == "none":
        code = 0
    elif reduction == "mean":
        code = 1
    elif reduction == "sum":
        code = 2
    else:
        raise ValueError("{} is not a valid value for reduction".format(reduction))
    return torch.mse_loss(input, target, code)


def embedding(input: Tensor, weight: Tensor, padding_idx: Optional[int] = None, max_norm: Optional[float] = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    padding = -1
    if padding_idx is not None:
        padding = padding_idx
        if padding < 0:
            padding = weight.size(0) + padding
    return torch.embedding(weight, input, padding, scale_grad_by_freq, sparse)


def interpolate(input: Tensor, size: Optional[List[int]] = None, scale_factor: Optional[List[float]] = None,
                mode: str = "nearest", align_corners: Optional[bool] = None,
                recompute_scale_factor: Optional[bool] = None, antialias: bool = False) -> Tensor:
    if mode == "nearest" or mode == "area" or mode == "nearest-exact":
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
        align = False
    elif align_corners is None:
        align = False
    else:
        align = align_corners
    dim = input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    output_size: Optional[List[int]] = None
    scale_factors: Optional[List[float]] = None
    if size is not None:
        if len(size) != dim:
            raise ValueError("Input and output must have the same number of spatial dimensions, but got input with spatial dimensions of {} and output size of {}.".format(input.size()[2:], size))
        output_size = size
    elif scale_factor is not None:
        if len(scale_factor) != dim:
            raise ValueError("Input and scale_factor must have the same number of spatial dimensions, but got input with spatial dimensions of {} and scale_factor of shape {}.".format(input.size()[2:], scale_factor))
        scale_factors = scale_factor
    else:
        raise ValueError("either size or scale_factor should be defined")
    if scale_factors is not None and (mode == "area" or (recompute_scale_factor is not None and recompute_scale_factor)):
        sizes: List[int] = []
        for i in range(dim):
            sizes.append(int(float(input.size(i + 2)) * scale_factors[i]))
        output_size = sizes
        scale_factors = None
    if mode == "nearest":
        if dim == 1:
            return torch.upsample_nearest1d(input, output_size, scale_factors)
        if dim == 2:
            return torch.upsample_nearest2d(input, output_size, scale_factors)
        return torch.upsample_nearest3d(input, output_size, scale_factors)
    if mode == "nearest-exact":
        if dim == 1:
            return torch._upsample_nearest_exact1d(input, output_size, scale_factors)
        if dim == 2:
            return torch._upsample_nearest_exact2d(input, output_size, scale_factors)
        return torch._upsample_nearest_exact3d(input, output_size, scale_factors)
    if mode == "area":
        assert output_size is not None
        if dim == 1:
            return torch.adaptive_avg_pool1d(input, output_size)
        if dim == 2:
            return torch.adaptive_avg_pool2d(input, output_size)
        return torch.adaptive_avg_pool3d(input, output_size)
    if mode == "linear":
        return torch.upsample_linear1d(input, output_size, align, scale_factors)
    if mode == "bilinear":
        if antialias:
            return torch._upsample_bilinear2d_aa(input, output_size, align, scale_factors)
        return torch.upsample_bilinear2d(input, output_size, align, scale_factors)
    if mode == "bicubic":
        if antialias:
            return torch._upsample_bicubic2d_aa(input, output_size, align, scale_factors)
        return torch.upsample_bicubic2d(input, output_size, align, scale_factors)
    if mode == "trilinear":
        return torch.upsample_trilinear3d(input, output_size, align, scale_factors)
    raise NotImplementedError("Input Error: Only 3D, 4D and 5D input Tensors supported (got {}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact (got {})".format(input.dim(), mode))


def instance_norm(input: Tensor, running_mean: Optional[Tensor] = None, running_var: Optional[Tensor] = None,
                  weight: Optional[Tensor] = None, bias: Optional[Tensor] = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    return torch.instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, True)
