import math
import torch


def _enum(reduction):
    if reduction == "none":
        return 0
    if reduction == "mean":
        return 1
    if reduction == "sum":
        return 2
    raise ValueError("{} is not a valid value for reduction".format(reduction))


def _with_default(out_size, defaults):
    if isinstance(out_size, int):
        return out_size
    return [v if v is not None else d for v, d in zip(out_size, defaults[-len(out_size):])]


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if stride is None:
        stride = []
    if return_indices:
        return torch.max_pool1d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
    return torch.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if stride is None:
        stride = []
    if return_indices:
        return torch.max_pool2d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
    return torch.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if stride is None:
        stride = []
    if return_indices:
        return torch.max_pool3d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
    return torch.max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode)


def adaptive_avg_pool2d(input, output_size):
    _output_size = _with_default(output_size, input.size())
    return torch.adaptive_avg_pool2d(input, _output_size)


def adaptive_avg_pool3d(input, output_size):
    _output_size = _with_default(output_size, input.size())
    return torch.adaptive_avg_pool3d(input, _output_size)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    result = torch.adaptive_max_pool1d(input, output_size)
    return result if return_indices else result[0]


def adaptive_max_pool2d(input, output_size, return_indices=False):
    output_size = _with_default(output_size, input.size())
    result = torch.adaptive_max_pool2d(input, output_size)
    return result if return_indices else result[0]


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, True)


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1,
                  eps=1e-5):
    return torch.instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, True)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    return torch.layer_norm(input, normalized_shape, weight, bias, eps, True)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    return torch.group_norm(input, num_groups, weight, bias, eps, True)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    dim = input.dim()
    div = input.mul(input)
    if dim == 3:
        div = div.unsqueeze(1)
        div = pad(div, (0, 0, size // 2, (size - 1) // 2))
        div = torch.avg_pool2d(div, (size, 1), 1).squeeze(1)
    else:
        sizes = input.size()
        div = div.view(sizes[0], 1, sizes[1], sizes[2], -1)
        div = pad(div, (0, 0, 0, 0, size // 2, (size - 1) // 2))
        div = torch.avg_pool3d(div, (size, 1, 1), 1).squeeze(1)
        div = div.view(sizes)
    div = div.mul(alpha).add(k).pow(beta)
    return input / div


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    if padding_idx is not None:
        if padding_idx < 0:
            padding_idx = weight.size(0) + padding_idx
    else:
        padding_idx = -1
    return torch.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)


def pad(input, pad, mode="constant", value=None):
    return torch.pad(input, pad, mode, value)


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                antialias=False):
    dim = input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is not None:
        scale_factors = None
        if isinstance(size, (list, tuple)):
            output_size = size
        else:
            output_size = [size for _ in range(dim)]
    elif scale_factor is not None:
        output_size = None
        if isinstance(scale_factor, (list, tuple)):
            scale_factors = scale_factor
        else:
            scale_factors = [scale_factor for _ in range(dim)]
    else:
        raise ValueError("either size or scale_factor should be defined")
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    elif align_corners is None:
        align_corners = False
    if mode == "nearest":
        if input.dim() == 3:
            return torch.upsample_nearest1d(input, output_size, scale_factors)
        if input.dim() == 4:
            return torch.upsample_nearest2d(input, output_size, scale_factors)
        return torch.upsample_nearest3d(input, output_size, scale_factors)
    if mode == "linear":
        return torch.upsample_linear1d(input, output_size, align_corners, scale_factors)
    if mode == "bilinear":
        if antialias:
            return torch._upsample_bilinear2d_aa(input, output_size, align_corners, scale_factors)
        return torch.upsample_bilinear2d(input, output_size, align_corners, scale_factors)
    if mode == "trilinear":
        return torch.upsample_trilinear3d(input, output_size, align_corners, scale_factors)
    if mode == "bicubic":
        return torch.upsample_bicubic2d(input, output_size, align_corners, scale_factors)
    if mode == "area":
        if input.dim() == 3:
            return torch.adaptive_avg_pool1d(input, output_size)
        if input.dim() == 4:
            return adaptive_avg_pool2d(input, output_size)
        return adaptive_avg_pool3d(input, output_size)
    raise NotImplementedError("this kind of input and mode")


def sigmoid(input):
    return input.sigmoid()


def tanh(input):
    return input.tanh()


def relu6(input, inplace=False):
    if inplace:
        result = torch.relu6_(input)
    else:
        result = torch.relu6(input)
    return result


def selu(input, inplace=False):
    if inplace:
        result = torch.selu_(input)
    else:
        result = torch.selu(input)
    return result


def celu(input, alpha=1.0, inplace=False):
    if inplace:
        result = torch.celu_(input, alpha)
    else:
        result = torch.celu(input, alpha)
    return result


def mish(input, inplace=False):
    if inplace:
        return torch.mish_(input)
    return torch.mish(input)


def hardsigmoid(input, inplace=False):
    if inplace:
        return torch.hardsigmoid_(input)
    return torch.hardsigmoid(input)


def glu(input, dim=-1):
    return torch.glu(input, dim)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    return (-input).softmax(dim)


def softsign(input):
    return input / (input.abs() + 1)


def tanhshrink(input):
    return input - input.tanh()


def threshold(input, threshold, value, inplace=False):
    if inplace:
        result = torch.threshold_(input, threshold, value)
    else:
        result = torch.threshold(input, threshold, value)
    return result


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    expanded_input, expanded_target = torch.broadcast_tensors(input, target)
    return torch.mse_loss(expanded_input, expanded_target, _enum(reduction))


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    expanded_input, expanded_target = torch.broadcast_tensors(input, target)
    return torch.l1_loss(expanded_input, expanded_target, _enum(reduction))


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    expanded_input, expanded_target = torch.broadcast_tensors(input, target)
    return torch.smooth_l1_loss(expanded_input, expanded_target, _enum(reduction), beta)


def huber_loss(input, target, reduction="mean", delta=1.0):
    expanded_input, expanded_target = torch.broadcast_tensors(input, target)
    return torch.huber_loss(expanded_input, expanded_target, _enum(reduction), delta)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    return torch.nll_loss_nd(input, target, weight, _enum(reduction), ignore_index)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):
    return torch.cross_entropy_loss(input, target, weight, _enum(reduction), ignore_index, label_smoothing)


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    return torch.binary_cross_entropy(input, target, weight, _enum(reduction))


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):
    return torch.binary_cross_entropy_with_logits(input, target, weight, pos_weight, _enum(reduction))


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    if reduction == "batchmean":
        reduction_enum = 2
    else:
        reduction_enum = _enum(reduction)
    reduced = torch.kl_div(input, target, reduction_enum, log_target=log_target)
    if reduction == "batchmean" and input.size()[0] != 0:
        reduced = reduced / input.size()[0]
    return reduced


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    return torch.im2col(input, kernel_size, dilation, padding, stride)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    return torch.col2im(input, output_size, kernel_size, dilation, padding, stride)


def dropout1d(input, p=0.5, training=True, inplace=False):
    return torch.feature_dropout_(input, p, training) if inplace else torch.feature_dropout(input, p, training)


def dropout2d(input, p=0.5, training=True, inplace=False):
    return torch.feature_dropout_(input, p, training) if inplace else torch.feature_dropout(input, p, training)


def dropout3d(input, p=0.5, training=True, inplace=False):
    return torch.feature_dropout_(input, p, training) if inplace else torch.feature_dropout(input, p, training)


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    return torch.alpha_dropout_(input, p, training) if inplace else torch.alpha_dropout(input, p, training)


def norm(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    if dim is None:
        _dim = None
    elif isinstance(dim, int):
        _dim = [dim]
    else:
        _dim = dim
    if isinstance(p, str):
        if p != "fro":
            raise RuntimeError("only the Frobenius norm is known by name")
        return torch.linalg.vector_norm(input, 2, _dim, keepdim, dtype=dtype)
    _p = 2.0 if p is None else p
    return torch.linalg.vector_norm(input, _p, _dim, keepdim, dtype=dtype)


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    denom = input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    return input / denom


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    return torch.cosine_similarity(x1, x2, dim, eps)
