"""A model in transformers, float32, whose linear layers can be changed, put back and looked into by the names that
its checkpoint has for them: of experts too, which transformers keeps in one tensor."""

import contextlib
import re

import torch
from transformers import AutoModelForCausalLM

from support.quantized_models import tensors_of

OF_A_BLOCK = re.compile(r"\.(layers|h)\.\d+\.")
ROUTER = re.compile(r"(_moe|mlp)\.gate\.weight|shared_expert_gate\.weight")
# An expert's gate, up and down: as mixtral has them and as the others do.
EXPERT_NAMES = [("block_sparse_moe", ("w1", "w3", "w2")),
                ("mlp", ("gate_proj", "up_proj", "down_proj"))]


def quality(logits, base, ids):
    """(loss, divergence from the base) summed over the predicted tokens of one window."""
    ours = torch.log_softmax(logits[:-1].double(), -1)
    theirs = torch.log_softmax(base[:-1].double(), -1)
    loss = -ours.gather(1, ids[1:, None]).sum().item()
    return loss, (theirs.exp() * (theirs - ours)).sum().item()


def expert_views(prefix, experts, stored):
    """{stored name: its part of transformers' tensors}."""
    parent = prefix.removesuffix("mlp.experts")
    views, half = {}, experts.gate_up_proj.shape[1] // 2
    for expert, (both, down) in enumerate(zip(experts.gate_up_proj, experts.down_proj)):
        for module, names in EXPERT_NAMES:
            names = [f"{parent}{module}.experts.{expert}.{name}.weight" for name in names]
            if names[0] in stored:
                views |= dict(zip(names, (both[:half], both[half:], down)))
    return views


def by_token(name, routed):
    """Where an expert's tokens stand among its rows: transformers has those first whose first choice it is."""
    expert = re.fullmatch(r"(.*\.)\w+\.experts\.(\d+)\..*", name)
    _, tokens = torch.where((routed[expert[1] + "mlp.experts"] == int(expert[2])).T)
    return torch.argsort(tokens)


def seen_by_token(hook, name, x, order=slice(None)):
    """What `hook` makes of x [.., channels] whose rows are of ascending tokens in that order."""
    rows = x.flatten(0, -2)
    changed = torch.empty_like(rows)
    changed[order] = hook(name, rows[order])
    return changed.view(x.shape)


class StoredLinears:
    """`weights`: {stored name: matrix}, of the linear layers of the blocks, routers left out."""

    def __init__(self, path):
        self.network = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
        stored = {name: tensor for name, tensor in tensors_of(path).items()
                  if tensor.dim() == 2 and OF_A_BLOCK.search(name) and not ROUTER.search(name)}
        self.dtype = next(iter(stored.values())).dtype
        self.places = {}
        with torch.no_grad():
            for prefix, module in self.network.named_modules():
                if isinstance(module, torch.nn.Linear) and prefix + ".weight" in stored:
                    self.places[prefix + ".weight"] = module.weight.detach()
                elif hasattr(module, "gate_up_proj") and not hasattr(module, "gate_proj") and isinstance(
                        module.gate_up_proj, torch.nn.Parameter):
                    self.places |= expert_views(prefix, module, stored)
        assert self.places.keys() == stored.keys()
        self.weights = {name: tensor.float() for name, tensor in stored.items()}
        for name, weight in self.weights.items():
            assert torch.equal(weight, self.places[name]), name

    @contextlib.contextmanager
    def changed(self, weights):
        """With other matrices; None: with those that are stored."""
        for name, weight in (weights or {}).items():
            self.places[name].copy_(weight)
        yield
        for name in weights or {}:
            self.places[name].copy_(self.weights[name])

    @contextlib.contextmanager
    def looked_into(self, hook):
        """hook(name, x [tokens, channels]) gives what the weight sees in place of x; an expert's gate
        stands for its up too."""
        # Gate and up of an expert are one product, which begins where the gate does.
        experts = {place.data_ptr(): name for name, place in self.places.items() if ".experts." in name}
        plain, routed, hooks = torch.nn.functional.linear, {}, []
        for prefix, module in self.network.named_modules():
            name = prefix + ".weight"
            if name in self.places:
                hooks.append(module.register_forward_pre_hook(
                    lambda _module, given, name=name: seen_by_token(hook, name, given[0])))
            elif prefix.endswith("mlp.experts"):
                hooks.append(module.register_forward_pre_hook(
                    lambda _module, given, prefix=prefix: routed.update({prefix: given[1]})))

        def linear(x, weight, bias=None):
            name = experts.get(weight.data_ptr())
            if name is not None:
                x = seen_by_token(hook, name, x, by_token(name, routed))
            return plain(x, weight, bias)

        torch.nn.functional.linear = linear
        try:
            yield
        finally:
            torch.nn.functional.linear = plain
            for each in hooks:
                each.remove()

    @torch.no_grad()
    def logits(self, windows, weights=None, hook=None):
        with self.changed(weights), self.looked_into(hook or (lambda _name, x: x)):
            return [self.network(ids[None], use_cache=False).logits[0] for ids in windows]

    def measure(self, windows, base, weights=None, hook=None):
        """Loss and divergence per token with other weights and inputs as `hook` makes them."""
        sums = [quality(logits, theirs, ids)
                for logits, theirs, ids in zip(self.logits(windows, weights, hook), base, windows)]
        count = sum(len(ids) - 1 for ids in windows)
        return tuple(sum(part) / count for part in zip(*sums))
