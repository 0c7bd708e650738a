"""Holds what `linchpin compress` wrote against the source it was given, as decoded_outputs reads both.

    check_packed(source, output, quantized, bounds)    compressed-tensors
    check_blocks(slots, output, bounds)                GGUF

What is asked of an output: every weight of a block is quantized and nothing else changed in a bit; each element
is within half a step of its group but where it is beyond the codes' ends; the errors of a tensor, in parts of the
tensor, are below a bound.  Bounds come from the tests.
"""

import dataclasses
import functools
import json
import re
import subprocess
import tempfile

import gguf
import numpy

from support.build import tool
from support.decoded_outputs import Blocks, decoded, grid_misses, stored, stored_in
from support.gguf_models import ARCHITECTURES, converted
from support.outputs import measured
from support.reference_encoder import encoded, error_weights
from support.wide_models import wide_model

BLOCK = re.compile(r"\.(layers|h)\.\d+\.")
# Of llama: the norms of a layer and the layers that read what they give.
READERS = {"input_layernorm": ("self_attn.q", "self_attn.k", "self_attn.v"),
           "post_attention_layernorm": ("mlp.gate", "mlp.up")}
# What routes tokens stays as it is.
ROUTERS = ("mlp.gate.weight", "block_sparse_moe.gate.weight", "shared_expert_gate.weight")
# By the default of options_of's default rule; of random models nothing is.
KEPT = {"tinystories": frozenset({"model.layers.0.mlp.down_proj.weight"})}
GROUPS = {"32": 32, "64": 64, "128": 128, "channel": None}


@dataclasses.dataclass(frozen=True)
class Scheme:
    options: tuple
    grid: str
    group: int | None = None  # None: a row
    asymmetric: bool = False


PACKED = {
    **{f"w4a16 {g}": Scheme(("--group-size", g), "pack4", n) for g, n in GROUPS.items()},
    **{f"asymmetric {g}": Scheme(("--asymmetric", "--group-size", g), "pack4", n, True)
       for g, n in GROUPS.items()},
    **{f"w8a16 {g}": Scheme(("--scheme", "w8a16", "--group-size", g), "pack8", n)
       for g, n in GROUPS.items()},
    "w8a8": Scheme(("--scheme", "w8a8"), "int8"), "fp8": Scheme(("--scheme", "fp8"), "float8"),
}
RULES = ("importance", "mse", "minmax", "signed")


FAMILIES = ("llama", "gpt_neox", "phi3", "opt", "mixtral", "qwen2_moe")
TYPES = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16")


def packed_cases():
    """(model, scheme, rule): the default rule everywhere, each other in every kind of codes."""
    cases = [(model, scheme, "importance") for model in FAMILIES for scheme in PACKED]
    rules = ("32", "mse"), ("64", "minmax"), ("128", "signed"), ("channel", "mse")
    cases += [("llama", f"{kind} {group}", rule) for kind in ("w4a16", "asymmetric", "w8a16")
              for group, rule in rules if (kind, rule) != ("asymmetric", "signed")]
    cases += [("llama", scheme, rule) for scheme in ("w8a8", "fp8") for rule in RULES[1:]]
    cases += [("tinystories", scheme, rule) for scheme in ("w4a16 128", "w8a16 32", "w8a8", "fp8")
              for rule in ("importance", "signed")]
    cases += [("tinystories", "asymmetric 128", rule) for rule in ("importance", "minmax")]
    return cases + [("bf16 experts", scheme, "importance") for scheme in ("w4a16 32", "w8a16 channel", "fp8")]


def gguf_cases():
    cases = [("llama", scheme, rule) for scheme in TYPES[:8] for rule in RULES[:3]]
    cases += [("llama", scheme, "importance") for scheme in TYPES[8:]]
    cases += [(model, scheme, "importance") for model in ("phi3", "mixtral", "qwen2_moe")
              for scheme in ("q4_0", "q5_k")]
    return cases + [("stories", scheme, "importance") for scheme in ("q4_1", "q8_0")]


def options_of(scheme, rule):
    """Of `compress`; the default rule is left to be one, so that outputs are shared with other tests."""
    options = PACKED[scheme].options if scheme in PACKED else ("--scheme", scheme)
    return options if rule == "importance" else (*options, "--scale", rule, "--preserve", "none")


def source_of(model, shared):
    places = {"tinystories": "models/tinystories-656k/bf16", "stories": "models/stories260k/hf-f32",
              "bf16 experts": "oracles/families/mixtral"}
    return shared / places[model] if model in places else wide_model(model)


@dataclasses.dataclass
class Source:
    config: dict
    tensors: dict     # {name: Stored}
    importance: dict  # {name: mean squares of the input channels}; none where no token came
    kept: frozenset = frozenset()  # what holds a super weight

    def weights(self, asymmetric=False):
        """The names of what must be quantized: of experts none with zero points, which nobody reads."""
        return {name for name, tensor in self.tensors.items()
                if tensor.bits.ndim == 2 and BLOCK.search(name) and not name.endswith(ROUTERS)
                and not (asymmetric and ".experts." in name)} - self.kept


def load(linchpin, directory):
    importance = stored_in(measured(linchpin, directory))
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return Source(config, stored(directory), {name: each.bits for name, each in importance.items()})


def sources(linchpin, shared):
    """source(model, rule): its directory and its Source, read once."""
    read = functools.cache(lambda model: load(linchpin, source_of(model, shared)))

    def source(model, rule="importance"):
        kept = KEPT.get(model, frozenset()) if rule == "importance" else frozenset()
        return source_of(model, shared), dataclasses.replace(read(model), kept=kept)

    return source


def relative(off, weight, per_column=1.0):
    off, weight = off.astype("f8"), weight.astype("f8")
    return float(numpy.sqrt((per_column * off ** 2).sum() / (per_column * weight ** 2).sum()))


def parts_of(name, scheme):
    """The tensors that stand in place of a weight."""
    if not scheme.grid.startswith("pack"):
        return {name, name + "_scale"}
    suffixes = ["packed", "scale", "shape"] + scheme.asymmetric * ["zero_point"]
    return {f"{name}_{suffix}" for suffix in suffixes}


@dataclasses.dataclass
class Errors:
    """The largest of all tensors."""
    plain: float = 0.0
    weighed: float = 0.0  # each input channel by its importance; of those that have one

    def add(self, off, weight, mean_squares):
        self.plain = max(self.plain, relative(off, weight))
        if mean_squares is not None:
            per_column = error_weights(mean_squares.astype("f8"))
            self.weighed = max(self.weighed, relative(off, weight, per_column))

    def check(self, bounds):
        """Bounds are (plain, weighed)."""
        assert self.plain <= bounds[0] and self.weighed <= bounds[1], (self, bounds)


def errors_of_packed(source, output, scheme):
    """Everything but the bounds of the errors is asserted on the way."""
    quantized = source.weights(scheme.asymmetric)
    assert quantized
    expected = source.tensors.keys() - quantized
    for name in expected:
        assert output[name] == source.tensors[name], name
    expected |= set().union(*(parts_of(name, scheme) for name in quantized))
    assert output.keys() == expected
    errors = Errors()
    for name in quantized:
        weight, found = source.tensors[name].floats(), decoded(output, name)
        columns = weight.shape[1]
        assert found.codes.shape == weight.shape and found.grid == scheme.grid, name
        assert columns // found.scales.shape[1] == (scheme.group or columns), name
        assert output[name + "_scale"].kind == source.tensors[name].kind, name
        assert grid_misses(weight, found) == 0, name
        errors.add(found.values() - weight, weight, source.importance.get(name))
    return errors


def check_packed(source, output, scheme, bounds):
    errors_of_packed(source, output, scheme).check(bounds)


# What a matrix whose rows are no whole super blocks becomes.
GIVES_WAY = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclasses.dataclass
class Slot:
    """What a tensor of a GGUF file is made from: [rows, columns], experts below each other."""
    kind: str
    weight: numpy.ndarray
    importance: list  # of each expert, or of the one matrix; None where no token came


def slots_of(source, scheme):
    """{GGUF's name: Slot} of every tensor that the file must have, by gguf-py's names."""
    architecture = ARCHITECTURES[source.config["model_type"]]
    settings = source.config | {"tie_word_embeddings": source.config.get("tie_word_embeddings", False)}
    weights = {name: tensor.floats() for name, tensor in source.tensors.items()}
    # Rows are moved, columns are not: what stands in every row stands in the rows that come out.
    nothing = numpy.float32(numpy.nan)
    rows = {name: numpy.broadcast_to(source.importance.get(name, nothing), weight.shape)
            for name, weight in weights.items()}
    weights, rows = (converted(settings, architecture, each) for each in (weights, rows))
    slots = {}
    for name, weight in weights.items():
        plain = weight.ndim == 1 or "ffn_gate_inp" in name
        kind = "F32" if plain else kind_of(name, weight.shape[-1], scheme.upper())
        first = [each[0] for each in rows[name].reshape(-1, *weight.shape[-2:])] if not plain else []
        importance = [None if numpy.isnan(each).any() else each for each in first]
        slots[name] = Slot(kind, weight.reshape(-1, weight.shape[-1]), importance)
    return slots


def kind_of(name, columns, kind):
    if kind.endswith("F16"):
        return kind
    if columns % 32:
        return "F16"
    if name in ("token_embd.weight", "output.weight"):
        return "Q8_0"
    return GIVES_WAY[kind] if columns % 256 and kind in GIVES_WAY else kind


def errors_of_blocks(slots, output):
    """Everything but the bounds of the errors is asserted on the way; of weights in blocks of codes."""
    errors = Errors()
    assert output.keys() == slots.keys()
    for name, slot in slots.items():
        found = output[name]
        assert found.kind.name == slot.kind, name
        values = found.values().reshape(slot.weight.shape)
        if slot.kind in ("F32", "F16", "BF16"):
            kind = gguf.GGMLQuantizationType[slot.kind]
            exact = gguf.dequantize(gguf.quantize(slot.weight, kind), kind)
            assert numpy.array_equal(values, exact.reshape(values.shape)), name
            continue
        assert found.misses(slot.weight.reshape(found.values().shape)) == 0, name
        count = len(slot.importance)
        for weight, read, importance in zip(numpy.split(slot.weight, count), numpy.split(values, count),
                                            slot.importance, strict=True):
            errors.add(read - weight, weight, importance)
    return errors


def check_blocks(slots, output, bounds):
    errors_of_blocks(slots, output).check(bounds)


def encode_blocks(weight, kind, importance=None):
    """The product's encoder by itself, given what a job measured: [rows, bytes]."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [tool("encode_blocks"), kind, str(weight.shape[1]), f"{scratch}/values", f"{scratch}/blocks"]
        numpy.ascontiguousarray(weight, "<f4").tofile(command[3])
        if importance is not None:
            command.append(f"{scratch}/importance")
            numpy.ascontiguousarray(importance, "<f4").tofile(command[5])
        subprocess.run(command, capture_output=True, check=True)
        return numpy.fromfile(command[4], numpy.uint8).reshape(len(weight), -1)


def expected_blocks(slot, rule):
    """The Blocks of one tensor: rounded as gguf-py rounds, or searched by what is measured of it."""
    kind = gguf.GGMLQuantizationType[slot.kind]
    parts = []
    for weight, importance in zip(numpy.split(slot.weight, len(slot.importance)), slot.importance):
        if rule == "mse":
            parts.append(encode_blocks(weight, slot.kind, numpy.ones(weight.shape[1], "f4")))
        elif rule == "importance" and importance is not None:
            parts.append(encode_blocks(weight, slot.kind, error_weights(importance)))
        elif slot.kind.endswith("_K"):
            parts.append(encode_blocks(weight, slot.kind))
        else:
            parts.append(gguf.quantize(weight, kind))
    return Blocks(kind, numpy.concatenate(parts))


def gain_of_importance(source, output, scheme):
    """How much smaller the errors by importance are than those of the search that takes all channels alike: 0.1 for
    a tenth."""
    sums = numpy.zeros(2)
    for name in source.weights(scheme.asymmetric) & source.importance.keys():
        weight = source.tensors[name].floats()
        per_column = error_weights(source.importance[name].astype("f8"))
        alike = reference(source, name, scheme, "mse")
        for i, found in enumerate((decoded(output, name), alike)):
            sums[i] += (per_column * (found.values() - weight).astype("f8") ** 2).sum()
    return float(1 - numpy.sqrt(sums[0] / sums[1]))


def reference(source, name, scheme, rule):
    tensor = source.tensors[name]
    return encoded(tensor.floats(), grid=scheme.grid, kind=tensor.kind, rule=rule,
                   group=scheme.group or tensor.bits.shape[1], asymmetric=scheme.asymmetric,
                   importance=source.importance.get(name))


def codes_that_differ(source, output, scheme, rules):
    """{name: how many codes, scales and zero points} are others than those of the second encoder; rules by name."""
    differ = {}
    for name in source.weights(scheme.asymmetric):
        found, expected = decoded(output, name), reference(source, name, scheme, rules[name])
        pairs = [(getattr(found, part), getattr(expected, part)) for part in ("codes", "scales", "zeros")]
        count = sum(numpy.count_nonzero(ours != theirs) for ours, theirs in pairs)
        if count:
            differ[name] = count
    return differ


def blocks_that_differ(slots, output, rule):
    """The names of tensors whose bytes are others than expected_blocks'."""
    return [name for name, slot in slots.items() if slot.kind not in ("F32", "F16", "BF16")
            and expected_blocks(slot, rule).data.tobytes() != output[name].data.tobytes()]


def rules_claimed(directory):
    """{name: rule} of what the manifest says is quantized."""
    manifest = json.loads((directory / "linchpin.json").read_text(encoding="utf-8"))
    return {each["name"]: each["scale"] for each in manifest["tensors"] if each["action"] == "quantized"}
