"""Sources that no training makes, through every scheme of every format: rows of zeros, constants, numbers
below the smallest normal one and beyond what a 16-bit scale can say, 10,000 tensors of nobody's, empty
ones and scalars.  What comes out is finite, as near as the scheme can be, and verifies."""

import json

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.byte_tokenizer import ROWS, byte_tokenizer
from support.decoded_outputs import blocks_of, decoded, grid_misses, stored
from support.gguf_models import pair_rows
from support.smollm2 import split_rotary

WIDTH = 256
KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
COMPRESSED = {"w4a16": [], "asymmetric": ["--asymmetric"], "channel": ["--group-size", "channel"],
              "w8a16": ["--scheme", "w8a16"], "w8a8": ["--scheme", "w8a8"],
              "fp8": ["--scheme", "fp8"]}
SEARCHED = ["q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"]
GGUF = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16"]
HEADS = 4
NAMES = {"self_attn.q": "attn_q", "self_attn.k": "attn_k", "self_attn.v": "attn_v", "self_attn.o": "attn_output",
         "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down"}
PAIRED = ("self_attn.q", "self_attn.k")
CONSTANT, HUGE, SPIKE = 1, 5, 6  # rows of every matrix
# Of the largest of a row: a step of 4 bits, which the far end of q4_0 is off by, with a little for
# what scales round.
STEP = 0.13
# Likewise of min-max and signed scales, whose far end has no code.
CODE_STEPS = {"pack4": STEP, "pack8": 0.008, "int8": 0.008, "float8": 0.04}
# Where a scale is searched for: the error of an ordinary row, in parts of the row.
ROW_ERRORS = {"pack4": 0.152, "pack8": 0.0112, "int8": 0.0112, "float8": 0.03, "q4_0": 0.11, "q4_1": 0.09, "q5_0": 0.054,
              "q5_1": 0.044, "q4_k": 0.091, "q5_k": 0.045, "q6_k": 0.022}


def odd_rows(weight):
    weight[0] = 0
    weight[CONSTANT] = 0.01
    weight[2] = 1e-40
    weight[3] = 1e-6 * weight[8]
    weight[4] = 1e-9 * weight[9]
    weight[HUGE] = 1e6 * weight[10].sign()
    weight[SPIKE, 17] = 300
    weight[7] = -0.0
    return weight


def model_of(directory, kind):
    """A layer of llama in which all matrices have rows as above."""
    directory.mkdir()
    torch.manual_seed(2)
    layer = "model.layers.0."
    tensors = {"model.embed_tokens.weight": 0.02 * torch.randn(ROWS, WIDTH),
               "model.norm.weight": torch.ones(WIDTH),
               layer + "input_layernorm.weight": torch.ones(WIDTH),
               layer + "post_attention_layernorm.weight": torch.ones(WIDTH)}
    for name in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up",
                 "mlp.down"):
        tensors[f"{layer}{name}_proj.weight"] = odd_rows(0.02 * torch.randn(WIDTH, WIDTH))
    limit = torch.finfo(KINDS[kind]).max
    tensors = {n: t.clamp(-limit, limit).to(KINDS[kind]) for n, t in tensors.items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": WIDTH,
        "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "vocab_size": ROWS, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}))
    byte_tokenizer(directory, ROWS)
    return directory


@pytest.fixture(name="sources", scope="module")
def sources_fixture(tmp_path_factory):
    return {kind: model_of(tmp_path_factory.mktemp("odd") / kind, kind) for kind in KINDS}


def check_rows(name, restored, source, step, ends=numpy.inf):
    """Numbers beyond `ends` are as large as can be; others are off by `step` of their row's largest at most."""
    assert numpy.isfinite(restored).all(), name
    largest = numpy.abs(source).max(1, keepdims=True)
    assert numpy.abs(restored[HUGE]).min() >= min(ends, largest[HUGE, 0]) * (1 - step), name
    error = numpy.abs(restored - source) / numpy.maximum(largest, 1e-5)
    error[HUGE] = 0 if largest[HUGE, 0] > ends else error[HUGE]
    assert error.max() <= step, (name, numpy.unravel_index(error.argmax(), error.shape), error.max())
    assert not restored[0].any() and not restored[7].any(), name


def check_ordinary_rows(name, restored, source, rule, bound):
    """Of importance where channels matter alike: behind the rows of 1e6 nothing else does, and is given up."""
    assert numpy.isfinite(restored).all(), name
    assert not restored[0].any() and not restored[7].any(), name
    if rule == "mse" or name in ("self_attn.q", "self_attn.k", "self_attn.v"):
        off, size = (numpy.sqrt((each[8:] ** 2).sum(1)) for each in (restored - source, source))
        assert (off <= bound * size).all(), (name, (off / size).max())


def weights_of(source):
    """{name without its layer: float32}."""
    tensors = stored(source)
    return {name: tensors[f"model.layers.0.{name}_proj.weight"].floats() for name in NAMES}


def read_blocks(out):
    """{name: (values in the rows' order of the checkpoint, Blocks)}; GGUF pairs rows for the rotation."""
    blocks = blocks_of(out / "model.gguf")
    found = {name: blocks[f"blk.0.{theirs}.weight"] for name, theirs in NAMES.items()}
    return {name: (split_rotary(each.values(), HEADS) if name in PAIRED else each.values(), each)
            for name, each in found.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", GGUF)
def test_gguf(kind, scheme, sources, linchpin, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", sources[kind], out, "--format", "gguf", "--scheme", scheme, "--scale", "minmax",
             "--preserve", "none")
    assert linchpin("verify", out).code == 0
    weights = weights_of(sources[kind])
    for name, (values, _) in read_blocks(out).items():
        check_rows(name, values, weights[name], STEP, ends=65504)


@pytest.mark.parametrize("scheme", SEARCHED)
@pytest.mark.parametrize("rule", ["importance", "mse"])
def test_gguf_that_is_searched(scheme, rule, sources, linchpin, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", sources["f16"], out, "--format", "gguf", "--scheme", scheme, "--scale", rule,
             "--preserve", "none")
    weights = weights_of(sources["f16"])
    for name, (values, blocks) in read_blocks(out).items():
        weight = weights[name]
        assert blocks.misses(pair_rows(weight, HEADS) if name in PAIRED else weight) == 0, name
        check_ordinary_rows(name, values, weight, rule, ROW_ERRORS[scheme])


@pytest.mark.parametrize("kind, scheme, rule", [
    *((kind, scheme, rule) for kind in KINDS for scheme in COMPRESSED for rule in ("importance", "minmax")),
    *(("f32", scheme, "mse") for scheme in COMPRESSED),
    *(("bf16", scheme, "signed") for scheme in COMPRESSED if scheme != "asymmetric")])
def test_compressed_tensors(kind, scheme, rule, sources, linchpin, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", sources[kind], out, *COMPRESSED[scheme], "--scale", rule, "--preserve", "none")
    assert linchpin("verify", out).code == 0
    weights, written = weights_of(sources[kind]), stored(out)
    for name, weight in weights.items():
        found = decoded(written, f"model.layers.0.{name}_proj.weight")
        assert numpy.isfinite(found.scales).all() and found.scales.all(), name
        assert grid_misses(weight, found) == 0, name
        if rule in ("importance", "mse"):
            check_ordinary_rows(name, found.values(), weight, rule, ROW_ERRORS[found.grid])
        else:
            check_rows(name, found.values(), weight, CODE_STEPS[found.grid])


def test_ten_thousand_tensors_empty_ones_and_scalars_are_carried_over(sources, linchpin, tmp_path):
    source = tmp_path / "many"
    source.mkdir()
    for path in sources["bf16"].iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    tensors |= {f"extra.{i}": torch.full((2,), float(i)) for i in range(10_000)}
    tensors |= {"extra.empty": torch.zeros(0, 4), "extra.rows": torch.zeros(4, 0),
                "extra.scalar": torch.tensor(3.5), "extra.mask": torch.tensor([-torch.inf, 0.])}
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    for options in (["--scheme", "w4a16"], ["--format", "dense", "--scheme", "w4a16"]):
        out = tmp_path / f"out-{len(options)}"
        linchpin("compress", source, out, *options, "--preserve", "none")
        assert linchpin("verify", out).code == 0
        written = load_file(out / "model.safetensors")
        for name in (n for n in tensors if n.startswith("extra.")):
            assert torch.equal(written[name], tensors[name]), name
    refused = linchpin.run("compress", source, tmp_path / "gguf", "--format", "gguf")
    assert refused.code == 42 and "tensor extra." in refused.error
    assert not (tmp_path / "gguf").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_or_kept_as_asked(value, sources, linchpin, tmp_path):
    source = tmp_path / "odd"
    source.mkdir()
    for path in sources["bf16"].iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    extra = torch.ones(4, 4)
    extra[2, 1] = value
    tensors["vision.projector.weight"] = extra
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    refused = linchpin.run("compress", source, tmp_path / "out")
    assert refused.code == 42 and "vision.projector.weight" in refused.error
    assert "[2, 1]" in refused.error and "--ignore" in refused.error
    assert not (tmp_path / "out").exists()
    linchpin("compress", source, tmp_path / "out", "--ignore", "vision.projector")
    written = load_file(tmp_path / "out/model.safetensors")["vision.projector.weight"]
    assert torch.equal(written.nan_to_num(7), extra.nan_to_num(7))


@pytest.mark.parametrize("output_format", ["compressed-tensors", "dense"])
def test_a_layer_that_is_not_finite_is_kept_without_a_detection(output_format, sources, linchpin,
                                                                tmp_path):
    """The pass cannot go through it: what then, is what is said."""
    source = tmp_path / "odd"
    source.mkdir()
    for path in sources["bf16"].iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name][3, 5] = float("nan")
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    module = name.removesuffix(".weight")
    options = ["--format", output_format, "--ignore", module, "--ignore",
               "model.layers.0.mlp.gate_proj"]
    for given, words in ((options, ["--detection off", "--ignore"]),
                         (["--detection", "off"], ["[3, 5]", "--ignore"])):
        refused = linchpin.run("compress", source, tmp_path / "out", *given)
        assert refused.code == 42 and all(word in refused.error for word in [name, *words])
        assert not (tmp_path / "out").exists()
    linchpin("compress", source, tmp_path / "out", *options, "--detection", "off")
    written = load_file(tmp_path / "out/model.safetensors")[name]
    assert torch.equal(written.view(torch.int16), tensors[name].view(torch.int16))


def test_weights_stored_by_inputs_are_refused_with_the_reason(linchpin, shared, tmp_path):
    """gpt2's: transformers makes no Linear of them, which is all that compressed-tensors knows, and
    groups would run across outputs."""
    for options in ([], ["--format", "dense"], ["--detection", "off"]):
        refused = linchpin.run("compress", shared / "oracles/families/gpt2", tmp_path / "out",
                               *options)
        assert refused.code == 42 and not (tmp_path / "out").exists()
        assert "attn.c_attn.weight: stored [in, out]" in refused.error
