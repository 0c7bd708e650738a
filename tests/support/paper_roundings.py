"""What the analyses of `evaluate` round, in torch: the super weight paper's blocks, 8 bits per channel and token,
SmoothQuant's factors and AWQ's scales.  By this file's own code."""

import re

import torch

SPARE = ("rtn_clip_restore", "rtn_held_out")
# What reads the residual stream, normed.
OF_STREAM = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "qkv_proj", "gate_up_proj",
             "query_key_value", "dense_h_to_4h", "fc1", "w1", "w3")


def rounded_runs(values, counted, bits, z):
    """Runs of elements, one a row: each its grid from those that are counted, everything on it."""
    low = values.masked_fill(~counted, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~counted, -torch.inf).amax(1, keepdim=True)
    if z:
        sizes = values.double().abs()
        bound = (sizes.mean(1, keepdim=True) + z * sizes.std(1, unbiased=True, keepdim=True)).float()
        low, high = torch.maximum(low, -bound), torch.minimum(high, bound)
    step = (high - low) / (2**bits - 1)
    on_grid = torch.round((values.clamp(low, high) - low) / step) * step + low
    return torch.where(step == 0, low, on_grid)


def rounded(weight, block, bits, z, spared, arm):
    """A matrix by the paper's scheme, which reads it as one list; `spared`: its super weights' places."""
    flat = weight.flatten()
    counted = torch.ones_like(flat, dtype=torch.bool)
    at = [row * weight.shape[1] + column for row, column in spared]
    if arm == "rtn_held_out":
        counted[at] = False
    clip = z if "clip" in arm else 0  # none of these leaves any out
    size = min(block or flat.numel(), flat.numel())
    whole = flat.numel() // size * size
    out = rounded_runs(flat[:whole].view(-1, size), counted[:whole].view(-1, size), bits, clip).flatten()
    if whole < flat.numel():
        out = torch.cat([out, rounded_runs(flat[None, whole:], counted[None, whole:], bits, clip)[0]])
    if arm in SPARE:
        out[at] = flat[at]
    return out.view_as(weight)


def places_in(weights, tensor):
    return [(w["row"], w["column"]) for w in weights if w["tensor"] == tensor]


def rounded_weights(reference, arm, bits, z, super_weights):
    """{name: matrix} of an arm of `evaluate --arms`, as a checkpoint of that dtype would have them."""
    return {name: rounded(weight, arm["block"], bits, z, places_in(super_weights, name), arm["name"])
                  .to(reference.dtype).float() for name, weight in reference.weights.items()}


def per_channel(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127.5
    return (weight / scale).round().clamp(-128, 127) * scale


def token_scale(x):
    return x.abs().amax(-1, keepdim=True) / 127.5


def per_token(x):
    scale = token_scale(x)
    return torch.where(scale > 0, (x / scale).round().clamp(-128, 127) * scale, x)


def is_of_stream(name):
    return name.removesuffix(".weight").endswith(tuple("." + each for each in OF_STREAM))


def sharing(reference, name):
    """The weights that read the same input as one of the stream, itself among them."""
    parent = name.removesuffix(".weight").rsplit(".", 1)[0]
    return [other for other in reference.weights if is_of_stream(other)
            and other.removesuffix(".weight").rsplit(".", 1)[0] == parent]


def smoothing_factors(reference, windows, alpha):
    """SmoothQuant's, one for all weights that read the same."""
    largest = {}

    def seen(name, x):
        if is_of_stream(name) and len(x):
            peak = x.abs().amax(0)
            largest[name] = torch.maximum(largest.get(name, peak), peak)
        return x

    reference.logits(windows, hook=seen)
    factors = {}
    for name, peak in largest.items():
        together = sharing(reference, name)
        weights = torch.stack([reference.weights[other].abs().amax(0) for other in together])
        factor = (peak.double().pow(alpha) / weights.amax(0).clamp(min=1e-5).double().pow(1 - alpha))
        factors |= dict.fromkeys(together, factor.float().clamp(min=1e-5))
    return factors


def spared_in(detection, name):
    """The channels of a layer's input in which a super activation stands."""
    layer = int(re.search(r"\.(\d+)\.", name)[1])
    channels = [a["channel"] for a in detection["super_activations"]
                if is_of_stream(name) and layer > a["onset_layer"]]
    return channels + [w["column"] for w in detection["super_weights"] if w["tensor"] == name]


class ActivationArms:
    """The arms of `evaluate --activations`: the weights of each, and what a layer sees in place of x."""

    NAMES = ("w8a8", "smoothquant", "super_outlier_aware")

    def __init__(self, reference, detection, calibration, alpha):
        self.reference, self.detection = reference, detection
        self.factors = smoothing_factors(reference, calibration, alpha)

    def factor(self, arm, name):
        return self.factors.get(name, torch.ones(1)) if arm == "smoothquant" else torch.ones(1)

    def weights(self, arm):
        return {name: per_channel(weight * self.factor(arm, name))
                for name, weight in self.reference.weights.items()}

    def spared(self, arm, name, x):
        """Places of elements that stay as they are."""
        if arm != "super_outlier_aware":
            return []
        return sorted({(x[:, channel].abs().argmax().item(), channel)
                       for channel in spared_in(self.detection, name)})

    def before_rounding(self, arm, name, x):
        """(what is rounded per token, the places that are put back)."""
        places = self.spared(arm, name, x)
        changed = x / self.factor(arm, name)
        for place in places:
            changed[place] = x.flatten().median()
        return changed, places

    def seen(self, arm, name, x):
        if not len(x):
            return x
        changed, places = self.before_rounding(arm, name, x)
        result = per_token(changed)
        for place in places:
            result[place] = x[place]
        return result


def awq_search(weight, x):
    """[(exponent, scales, error)]: round-to-nearest in asymmetric groups of 128, or as many as divide the rows."""
    magnitude = x.double().abs().mean(0)
    group = max(g for g in (128, 64, 32) if weight.shape[1] % g == 0)
    tried = []
    for step in range(20):
        scales = magnitude.pow(step / 20).float().clamp(min=1e-4)
        scales = scales / (scales.max() * scales.min()).sqrt()
        groups = (weight * scales).view(-1, group)
        low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
        size = ((high - low) / 15).clamp(min=1e-12)
        zero = (-low / size).round().clamp(0, 15)
        codes = (groups / size + zero).round().clamp(0, 15)  # as compressed-tensors: ties by what is stored
        changed = ((codes - zero) * size).view_as(weight) / scales
        tried.append((step / 20, scales, (x @ (changed - weight).T).double().pow(2).sum().item()))
    return tried
