"""Slow oracles in float64, written from the papers: what the fast code must equal.

A method's oracle has the method's name. The first kind takes tensors of one image, layer and
class; the second asks a network again and again, in full, with hooks where a layer is changed.
Both return one raw map: before the final ReLU, not scaled.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from camreport.metrics.effect import shared_masks


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, eq. 1 (w_k: average of the gradient) and eq. 2 before its ReLU."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        weight = math.fsum(value for row in g[k] for value in row) / (height * width)
        for i in range(height):
            for j in range(width):
                cam[i, j] += weight * a[k][i][j]
    return cam


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor, epsilon: float = 0.0) -> Tensor:
    """Chattopadhyay et al. 2018, eq. 19 (alpha) and eq. 5 (w_k), before the ReLU of eq. 6.

    A denominator of zero counts as one, as in the authors' code. Where it is not positive under
    a positive gradient, the expansion behind alpha has no meaning, and the map is NaN.

    Args:
        activation: ``(C, h, w)``.
        gradient: same shape.
        epsilon: what pytorch-grad-cam adds to the denominator.
    """
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        total = math.fsum(value for row in a[k] for value in row)
        weight = 0.0
        for i in range(height):
            for j in range(width):
                slope = g[k][i][j]
                denominator = 2 * slope**2 + total * slope**3 + epsilon
                if denominator <= 0 < slope:
                    return torch.full_like(cam, torch.nan)
                alpha = slope**2 / (denominator or 1.0)
                weight += alpha * max(slope, 0.0)
        cam += weight * activation[k].double()
    return cam


def smooth_grad_cam_plus_plus(activation: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Omeiza et al. 2019: Grad-CAM++ with D1, D2, D3, the means of G, G^2, G^3 over noisy copies.

    Args:
        activation: of the image without noise, ``(C, h, w)``.
        gradients: of each noisy copy, same shape.
    """
    channels, height, width = activation.shape
    a, copies = activation.double().tolist(), [g.double().tolist() for g in gradients]
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        total = math.fsum(value for row in a[k] for value in row)
        weight = 0.0
        for i in range(height):
            for j in range(width):
                slopes = [g[k][i][j] for g in copies]
                first, second, third = (
                    math.fsum(slope**power for slope in slopes) / len(slopes) for power in (1, 2, 3)
                )
                denominator = 2 * second + total * third
                if denominator > 0:
                    weight += second / denominator * max(first, 0.0)
        cam += weight * activation[k].double()
    return cam


def xgrad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Fu et al. 2020: w_k is the mean of the gradient weighted by A_k; none where A_k sums to 0."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        total = math.fsum(value for row in a[k] for value in row)
        if total:
            weight = math.fsum(
                a[k][i][j] / total * g[k][i][j] for i in range(height) for j in range(width)
            )
            cam += weight * activation[k].double()
    return cam


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020, eq. 3: the sum over channels of gradient times activation."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            cam[i, j] = math.fsum(g[k][i][j] * a[k][i][j] for k in range(channels))
    return cam


def grad_cam_elementwise(activation: Tensor, gradient: Tensor) -> Tensor:
    """As in pytorch-grad-cam: like HiResCAM, but only products above zero are added up."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            products = [g[k][i][j] * a[k][i][j] for k in range(channels)]
            cam[i, j] = math.fsum(product for product in products if product > 0)
    return cam


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, eq. 6 (w = relu of the gradient), 7 and 8 before its ReLU."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                if g[k][i][j] > 0:
                    cam[i, j] += g[k][i][j] * a[k][i][j]
    return cam


def layer_cam_pool_gradient(activation: Tensor, pool_gradient: Tensor) -> Tensor:
    """layercam_loc: the next layer's gradient, enlarged corner to corner; relu of its product."""
    height, width = activation.shape[-2:]
    cam = torch.zeros(height, width, dtype=torch.float64)
    for channel, gradient in zip(activation, pool_gradient, strict=True):
        enlarged = resize(gradient, (height, width), corners=True)
        cam += relu(channel.double() * enlarged)
    return cam


def gradient_x_activation(activation: Tensor, gradient: Tensor) -> Tensor:
    """Shrikumar et al. 2016 at a layer: the product, channel by channel."""
    pairs = zip(activation.flatten().tolist(), gradient.flatten().tolist(), strict=True)
    products = [a * g for a, g in pairs]
    return torch.tensor(products, dtype=torch.float64).view(activation.shape)


def finer_cam(activation: Tensor, gradients: Tensor, logits: Tensor, target: int) -> Tensor:
    """Zhang et al. 2025: Grad-CAM of s_c - 0.6 mean(s_d), d the three classes of nearest logit.

    Args:
        activation: ``(C, h, w)``.
        gradients: of the logit of every class, ``(num_classes, C, h, w)``.
        logits: ``(num_classes,)``.
        target: the class c.
    """
    values = logits.tolist()
    others = [d for d in range(len(values)) if d != target]
    alike = sorted(others, key=lambda d: abs(values[d] - values[target]))[:3]
    cam = grad_cam(activation, gradients[target])
    for d in alike:
        cam -= 0.6 / len(alike) * grad_cam(activation, gradients[d])
    return cam


def cam(activation: Tensor, weight: Tensor) -> Tensor:
    """Zhou et al. 2016, eq. 2: the classifier's weights ``(C,)`` on the maps that are pooled."""
    total = torch.zeros(activation.shape[-2:], dtype=torch.float64)
    for value, channel in zip(weight.tolist(), activation.double(), strict=True):
        total += value * channel
    return total


def eigen_cam(activation: Tensor) -> Tensor:
    """Muhammad and Yeasin 2020: X v with X = U S V^T, not centred, v the first column of V.

    The sign that the decomposition leaves open is the one that agrees with the channels' sum:
    that of the sum of v, because X^T (X v) is a positive multiple of v. If v adds up to less
    than a thousandth of its sizes, the sum of the map's cubes decides; if those cancel as well,
    the first of the map's largest values.
    """
    channels, height, width = activation.shape
    x = activation.double().numpy().reshape(channels, -1).T  # (h * w, C)
    vector = np.linalg.svd(x, full_matrices=False)[2][0]
    projected = x @ vector
    largest = max(abs(value) for value in projected)
    peaks = [value for value in projected if abs(value) >= 0.999 * largest]
    for terms in (vector, projected**3, peaks[:1]):
        if abs(math.fsum(terms)) > 1e-3 * math.fsum(map(abs, terms)):
            projected = math.copysign(1, math.fsum(terms)) * projected
            break
    return torch.from_numpy(projected.reshape(height, width))


def eigen_grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """As in pytorch-grad-cam (but not centred): Eigen-CAM of gradient times activation."""
    return eigen_cam(activation.double() * gradient.double())


def guided_grad_cam(guided: Tensor, cam: Tensor) -> Tensor:
    """Selvaraju et al. 2017, section 3: guided backpropagation times the enlarged relu(Grad-CAM).

    Args:
        guided: guided backpropagation, ``(3, H, W)``.
        cam: raw Grad-CAM, ``(h, w)``.
    """
    mask = resize(relu(cam.double()), tuple(guided.shape[-2:]))
    return torch.stack([colour * mask for colour in guided.double()])


# Oracles that ask the network


def guided_backprop(net: nn.Sequential, image: Tensor, target: int) -> Tensor:
    """Springenberg et al. 2015: the gradient of a net whose ReLU is replaced by ``GuidedReLU``.

    Args:
        net: layers one after the other; its ReLUs are not called.
        image: ``(3, H, W)``.
        target: the class.
    """
    leaf = image[None].clone().requires_grad_()
    value: Tensor = leaf
    for module in net:
        value = GuidedReLU.apply(value) if isinstance(module, nn.ReLU) else module(value)
    return torch.autograd.grad(value[0, target], leaf)[0][0]


class GuidedReLU(torch.autograd.Function):
    """ReLU whose backward pass lets a gradient through where it and the input are positive."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        """Return the positive part."""
        context.save_for_backward(value)
        return value * (value > 0)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        """Return the gradient where both are positive."""
        (value,) = context.saved_tensors
        return gradient * (value > 0) * (gradient > 0)


def full_grad(net: nn.Module, image: Tensor, target: int) -> Tensor:
    """Srinivas and Fleuret 2019, after saliency/fullgrad.py: input share and 2-D bias shares.

    Each is rectified by ``abs``, stretched to 0..1 over the whole image (their epsilon left
    out) and enlarged corner to corner.
    """
    of_input, of_biases = full_gradients(net, image, target)
    size = tuple(image.shape[-2:])
    saliency = torch.zeros(size, dtype=torch.float64)
    for share in [of_input, *of_biases]:
        share = share.abs()
        share = share - share.min()
        if share.max() > 0:
            share = share / share.max()
        for channel in share:
            saliency += resize(channel, size, corners=True)
    return saliency


def full_gradients(net: nn.Module, image: Tensor, target: int) -> tuple[Tensor, list[Tensor]]:
    """Return x * ds/dx and, for each convolution and normalisation that adds one, b * ds/dz."""
    added: list[tuple[Tensor, Tensor]] = []  # zeros added to the output z, and the bias b

    def add_zeros(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        zeros = torch.zeros_like(output, requires_grad=True)
        bias = module.bias
        if isinstance(module, nn.BatchNorm2d):
            spread = torch.sqrt(module.running_var + module.eps)
            bias = module.bias - module.running_mean * module.weight / spread
        if bias is None:
            return output
        added.append((zeros, bias.detach().view(1, -1, 1, 1)))
        return output + zeros

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    modules = [module for module in net.modules() if isinstance(module, kinds)]
    handles = [module.register_forward_hook(add_zeros) for module in modules]
    leaf = image[None].clone().requires_grad_()
    logit = net(leaf)[0, target]
    for handle in handles:
        handle.remove()
    slope, *slopes = torch.autograd.grad(logit, [leaf, *(zeros for zeros, _ in added)])
    shares = [(bias * s)[0].double() for (_, bias), s in zip(added, slopes, strict=True)]
    return (leaf * slope)[0].detach().double(), shares


def score_cam(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """Wang et al. 2020, after scorecam.py: the class's probability under each channel's mask.

    The authors add up enlarged channels; enlarging is linear, so they are added up first here.
    """
    activation = output_of(net, layer, image)
    cam = torch.zeros(activation.shape[-2:], dtype=torch.float64)
    for channel in activation:
        if channel.max() > channel.min():
            mask = stretch(resize(channel, tuple(image.shape[-2:])))
            probability = logits_of(net, image * mask).softmax(0)[target]
            cam += probability * channel.double()
    return cam


def score_cam_pgc(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """As pytorch-grad-cam 1.5.7: masks enlarged corner to corner, a softmax over the channels."""
    activation = output_of(net, layer, image)
    size = tuple(image.shape[-2:])
    masks = [stretch(resize(channel, size, corners=True), 1e-8) for channel in activation]
    return _softmax_of_logits(net, activation, image, masks, target)


def score_cam_torchcam(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """As torchcam 0.5.0: masks stretched on the layer's grid, a softmax over the channels."""
    activation = output_of(net, layer, image)
    size = tuple(image.shape[-2:])
    masks = [resize(stretch(channel.double(), 1e-8), size) for channel in activation]
    return _softmax_of_logits(net, activation, image, masks, target)


def _softmax_of_logits(
    net: nn.Module, activation: Tensor, image: Tensor, masks: list[Tensor], target: int
) -> Tensor:
    logits = [float(logits_of(net, image * mask)[target]) for mask in masks]
    powers = [math.exp(logit - max(logits)) for logit in logits]
    cam = torch.zeros(activation.shape[-2:], dtype=torch.float64)
    for power, channel in zip(powers, activation.double(), strict=True):
        cam += power / math.fsum(powers) * channel
    return cam


def ablation_cam(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """Desai and Ramaswamy 2020, not divided by the logit: one full forward pass per channel."""
    activation = output_of(net, layer, image)
    logit = logits_of(net, image)[target].double()
    cam = torch.zeros(activation.shape[-2:], dtype=torch.float64)
    for k, channel in enumerate(activation):
        without = activation.clone()
        without[k] = 0
        with exchanged(layer, without):
            cam += (logit - logits_of(net, image)[target]) * channel.double()
    return cam


def recipro_cam(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """Byun and Lee 2024: one full forward pass per position, with zeros everywhere else."""
    activation = output_of(net, layer, image)
    cam = torch.zeros(activation.shape[-2:], dtype=torch.float64)
    for i in range(cam.shape[0]):
        for j in range(cam.shape[1]):
            kept = torch.zeros_like(activation)
            kept[:, i, j] = activation[:, i, j]
            with exchanged(layer, kept):
                cam[i, j] = logits_of(net, image)[target]
    return cam


def logits_of(net: nn.Module, image: Tensor) -> Tensor:
    """Return the logits of one image, ``(num_classes,)``."""
    with torch.no_grad():
        return net(image[None].to(next(net.parameters()).dtype))[0]


def output_of(net: nn.Module, layer: nn.Module, image: Tensor) -> Tensor:
    """Return what a layer gives for one image, ``(C, h, w)``."""
    seen: list[Tensor] = []
    with hooked(layer, lambda _module, _inputs, output: seen.append(output[0].detach().clone())):
        logits_of(net, image)
    return seen[0]


@contextmanager
def exchanged(layer: nn.Module, value: Tensor) -> Iterator[None]:
    """Let a layer give another value than its own."""
    with hooked(layer, lambda *_: value[None].clone()):
        yield


@contextmanager
def hooked(layer: nn.Module, hook: Callable[..., object]) -> Iterator[None]:
    """Call a forward hook within the block."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def measured(net: nn.Module, _layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """Fit effects to the drops of the logit under masks, with a level for each half and a ridge.

    Least squares for ``(d, 0) = (X, levels; I, 0) (effects, levels)``, then the constant that makes
    the effects add up to what masks and their complements take on average.
    """
    height, width = image.shape[-2:]
    grid = min(8, height), min(8, width)
    covered = shared_masks(grid, 0).covered
    before = logits_of(net, image)[target].item()
    drops = []
    for mask in covered:
        changed = image.clone()
        for cell in mask.nonzero()[0]:
            i, j = divmod(int(cell), grid[1])
            rows = [y for y in range(height) if y * grid[0] // height == i]
            columns = [x for x in range(width) if x * grid[1] // width == j]
            changed[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0
        drops.append(before - logits_of(net, changed)[target].item())
    half, cells = len(covered) // 2, covered.shape[1]
    levels = [[float(j < half), float(j >= half)] for j in range(len(covered))]
    design = np.block([[covered, np.array(levels)], [np.eye(cells), np.zeros((cells, 2))]])
    effects = np.linalg.lstsq(design, np.array([*drops, *[0.0] * cells]), rcond=None)[0][:cells]
    effects += (2 * np.mean(drops) - effects.sum()) / cells
    return torch.from_numpy(effects.reshape(grid))


# From a raw map to the eye


def stretch(values: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return values from 0 to 1; zeros where they are all the same."""
    low, high = float(values.min()), float(values.max())
    return (values.double() - low) / ((high - low + epsilon) or 1.0)


def normalise(cam: Tensor) -> Tensor:
    """Divide the positive part by the maximum; a map without positive values becomes zeros."""
    peak = max(value for row in cam.double().tolist() for value in row)
    rows = [[max(value, 0.0) / peak if peak > 0 else 0.0 for value in row] for row in cam.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def resize(cam: Tensor, size: tuple[int, ...], corners: bool = False) -> Tensor:
    """Resize one map ``(h, w)`` bilinearly.

    With half-pixel centres output pixel i looks at (i + 0.5) h / H - 0.5; corner to corner it
    looks at i (h - 1) / (H - 1).
    """
    down, along = (_shares(cam.shape[i], size[i], corners) for i in (0, 1))
    return down @ cam.double() @ along.T


@cache
def _shares(old: int, new: int, corners: bool) -> Tensor:
    """Return how much of each old pixel is in each new one, ``(new, old)``."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for index in range(new):
        place = (index + 0.5) * old / new - 0.5
        if corners:
            place = index * (old - 1) / max(1, new - 1)
        place = min(max(place, 0.0), old - 1.0)
        low = math.floor(place)
        matrix[index, low] += 1 - (place - low)
        matrix[index, min(low + 1, old - 1)] += place - low
    return matrix


def fuse(cams: Sequence[Tensor], shallow: Sequence[bool]) -> Tensor:
    """Jiang et al. 2021, eq. 9: tanh(2 M / max M) where shallow, else M / max M; the maximum.

    Args:
        cams: one map ``(h, w)`` per layer, each with a positive value or empty.
        shallow: for each of them, whether it is lifted.
    """
    grid = max((tuple(cam.shape) for cam in cams), key=math.prod)
    fused = torch.zeros(grid, dtype=torch.float64)
    for cam, lift in zip(cams, shallow, strict=True):
        scaled = normalise(cam)
        if lift:
            lifted = [[math.tanh(2 * value) for value in row] for row in scaled.tolist()]
            scaled = torch.tensor(lifted, dtype=torch.float64)
        large = resize(scaled, grid)
        for i in range(grid[0]):
            for j in range(grid[1]):
                fused[i, j] = max(float(fused[i, j]), float(large[i, j]))
    return fused
