"""Sources that no training makes, through every scheme of every format: rows of zeros, constants, numbers
below the smallest normal one and beyond what a 16-bit scale can say, 10,000 tensors of nobody's, empty
ones and scalars.  What comes out is finite, as near as the scheme can be, and verifies."""

import json

import gguf
import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.byte_tokenizer import ROWS, byte_tokenizer

WIDTH = 256
KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
COMPRESSED = {"w4a16": [], "asymmetric": ["--asymmetric"], "channel": ["--group-size", "channel"],
              "w8a16": ["--scheme", "w8a16"], "w8a8": ["--scheme", "w8a8"],
              "fp8": ["--scheme", "fp8"]}
GGUF = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16"]
RULES = ["importance", "minmax"]
CONSTANT, HUGE, SPIKE = 1, 5, 6  # rows of every matrix
# Of the largest of a row: a step of 4 bits, which the far end of q4_0 is off by, with a little for
# what scales round.
STEP = 0.13


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
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "vocab_size": ROWS, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}))
    byte_tokenizer(directory, ROWS)
    return directory


@pytest.fixture(name="sources", scope="module")
def sources_fixture(tmp_path_factory):
    return {kind: model_of(tmp_path_factory.mktemp("odd") / kind, kind) for kind in KINDS}


def check_rows(name, restored, source, step):
    restored, source = numpy.asarray(restored, "f4"), source.float().numpy()
    assert numpy.isfinite(restored).all(), name
    largest = numpy.abs(source).max(1, keepdims=True)
    error = numpy.abs(restored - source) / numpy.maximum(largest, 1e-5)
    # A 16-bit scale or number ends at 65504: what is beyond is as large as can be.
    assert numpy.abs(restored[HUGE]).min() >= 65504 * (1 - STEP) or largest[HUGE] < 65504, name
    error[HUGE] = 0 if largest[HUGE] > 65504 else error[HUGE]
    assert error.max() <= step, (name, numpy.unravel_index(error.argmax(), error.shape),
                                 error.max())
    assert not restored[0].any() and not restored[7].any(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", GGUF)
def test_gguf(kind, scheme, sources, linchpin, tmp_path):
    out = tmp_path / "out"
    # The other rules give up what no activation meets.
    linchpin("compress", sources[kind], out, "--format", "gguf", "--scheme", scheme, "--scale",
             "minmax", "--preserve", "none")
    assert linchpin("verify", out).code == 0
    source = load_file(sources[kind] / "model.safetensors")
    names = {"blk.0.attn_v.weight": "self_attn.v", "blk.0.ffn_gate.weight": "mlp.gate",
             "blk.0.ffn_up.weight": "mlp.up", "blk.0.ffn_down.weight": "mlp.down"}
    for tensor in gguf.GGUFReader(out / "model.gguf").tensors:
        if tensor.name in names:
            check_rows(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type),
                       source[f"model.layers.0.{names[tensor.name]}_proj.weight"], STEP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", COMPRESSED)
@pytest.mark.parametrize("rule", RULES)
def test_compressed_tensors(kind, scheme, rule, sources, linchpin, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", sources[kind], out, *COMPRESSED[scheme], "--scale", rule, "--preserve",
             "none")
    assert linchpin("verify", out).code == 0
    stored = load_file(out / "model.safetensors")
    scales = [t for n, t in stored.items() if n.endswith("_scale")]
    assert len(scales) == 7
    for scale in scales:
        assert torch.isfinite(scale.float()).all()
        assert scale.float().abs().min() > 0


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
