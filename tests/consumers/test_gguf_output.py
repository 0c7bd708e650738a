"""GGUF files that we write, read by those they are written for: gguf-py and llama.cpp.

llama.cpp runs in node through the npm package node-llama-cpp, which tests/run.sh installs.
"""

import json
import os
import pathlib
import subprocess

import gguf
import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from support.build import tool
from support.ggml_floats import ggml_floats
from support.gguf_models import read_tensors, write_gguf
from support.llama_cpp import llama_cpp
from support.npm import NODE
from support.quantized_models import check_loss, dense, load_in_transformers, restored
from support.quantized_models import tensors_of as quantized_tensors
from support.smollm2 import read_gguf, smollm2, smollm2_gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16"]
# Types of a matrix whose rows are no multiple of 256, as llama.cpp has them.
GIVES_WAY = {"q4_k": "Q5_0", "q5_k": "Q5_1", "q6_k": "Q8_0"}
DOWN_PROJ = "model.layers.11.mlp.down_proj.weight"
FFN_DOWN = "blk.11.ffn_down.weight"
SUPER_WEIGHTS = [(507, 1229), (507, 1487)]
TOLERANCE = 5e-3  # nats
MOST_LOST = 0.141  # of a matrix, in groups of 4 bits: 0.128 today


@pytest.fixture(name="stories", scope="module")
def stories_fixture(shared):
    return shared / "models/stories260k/stories260K-f32.gguf"


@pytest.fixture(name="compress", scope="module")
def compress_fixture(linchpin, compressed):
    """compress(model, option, value, ...): the output directory, which was verified."""
    verified = set()

    def compress(model, *options):
        out = compressed(model, "--format", "gguf", *options)
        if out not in verified:
            assert linchpin("verify", out).code == 0
            verified.add(out)
        return out

    return compress


@pytest.fixture(name="token_ids", scope="module")
def token_ids_fixture(shared, tmp_path_factory):
    """token_ids(model, count): a file of BOS and the ids of a text, as the model's file has them."""
    def token_ids(model, count):
        text = (shared / "text/tinystories_sample_cs336.txt").read_text(encoding="utf-8")[:9000]
        command = [tool("tokenize")]
        result = subprocess.run([*command, model], input=text, capture_output=True,
                                text=True, check=True)
        ids = [1] + [int(each) for each in result.stdout.split()][:count - 1]
        path = tmp_path_factory.mktemp("ids") / "ids.json"
        path.write_text(json.dumps(ids), encoding="utf-8")
        return path

    return token_ids


def llama_loss(model, ids, adapter=None):
    command = [NODE, ROOT / "tests/support/llama_loss.mjs", model, ids]
    result = subprocess.run(command + ([adapter] if adapter else []), capture_output=True, text=True,
                            check=False, env=os.environ | {"LLAMA_CPP": str(llama_cpp())})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])["loss"]


def our_loss(linchpin, model, ids, tmp_path):
    lists = tmp_path / "lists.json"
    lists.write_text(f"[{ids.read_text(encoding='utf-8')}]", encoding="utf-8")
    return linchpin("evaluate", model, "--tokens", lists, "--json").json["loss"]


def tensors_of(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values_of(tensor):
    return gguf.dequantize(tensor.data, tensor.tensor_type)


def fields_of(path):
    """All pairs but what says how the file was quantized."""
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items()
            if not key.startswith("GGUF.")
            and key not in ("general.file_type", "general.quantization_version")}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_llama_cpp_gives_our_loss_on_stories(scheme, stories, compress, token_ids, linchpin,
                                             tmp_path):
    model = compress(stories, "--scheme", scheme) / "model.gguf"
    ids = token_ids(stories, 128)
    assert llama_loss(model, ids) == pytest.approx(our_loss(linchpin, model, ids, tmp_path),
                                                   abs=TOLERANCE)


def test_llama_cpp_reads_8_bit_embeddings_beside_half_precision(stories, compress, token_ids,
                                                                linchpin, tmp_path):
    for options in (["--embeddings", "8"], ["--lm-head", "8"]):  # one tensor is both
        model = compress(stories, "--scheme", "f16", *options) / "model.gguf"
        types = {name: tensor.tensor_type.name for name, tensor in tensors_of(model).items()}
        assert types.pop("token_embd.weight") == "Q8_0"
        assert "Q8_0" not in types.values()
        ids = token_ids(stories, 128)
        assert llama_loss(model, ids) == pytest.approx(our_loss(linchpin, model, ids, tmp_path),
                                                       abs=TOLERANCE)


@pytest.mark.parametrize("scheme", ["f16", "bf16"])
def test_llama_cpp_gives_our_loss_on_smollm2(scheme, compress, token_ids, linchpin, tmp_path):
    """Of weights whose products round nothing on the way; what the others hold, test_gguf_floats.py holds."""
    model = compress(smollm2_gguf(), "--scheme", scheme) / "model.gguf"
    ids = token_ids(smollm2_gguf(), 128)
    assert llama_loss(model, ids) == pytest.approx(our_loss(linchpin, model, ids, tmp_path),
                                                   abs=TOLERANCE)


def in_16_bits(compress, model):
    """The weights that were written, as llama.cpp multiplies them without rounding what they meet."""
    return compress(model, "--scheme", "f16", "--preserve", "none") / "model.gguf"


def test_llama_cpp_gives_our_loss_where_norms_are_scaled(compress, token_ids, linchpin, tmp_path):
    model = compress(smollm2_gguf(), "--scheme", "q4_0", "--equalize") / "model.gguf"
    for norm in ("blk.11.attn_norm.weight", "blk.11.ffn_norm.weight"):
        before, after = (tensors_of(path)[norm].data for path in (smollm2_gguf(), model))
        scaled = set((after / before).tolist())
        assert len(scaled) > 1 and scaled <= {0.25, 0.5, 1, 2, 4}
    ids = token_ids(smollm2_gguf(), 128)
    assert llama_loss(in_16_bits(compress, model), ids) == pytest.approx(
        our_loss(linchpin, model, ids, tmp_path), abs=TOLERANCE)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_type_is_where_it_belongs(scheme, compress):
    source = tensors_of(smollm2_gguf())
    tensors = tensors_of(compress(smollm2_gguf(), "--scheme", scheme) / "model.gguf")
    assert list(tensors) == list(source)
    for name, tensor in tensors.items():
        kind = tensor.tensor_type.name
        if len(source[name].shape) == 1:
            assert kind == "F32", name
        elif name == "token_embd.weight":
            assert kind == (scheme.upper() if scheme.endswith("f16") else "Q8_0")
        elif name == FFN_DOWN:
            assert kind == "Q4_1", "the super weights' tensor stays as it is"
            numpy.testing.assert_array_equal(tensor.data, source[name].data)
        else:
            rows_fit = tensor.shape[0] % 256 == 0
            expected = scheme.upper() if rows_fit else GIVES_WAY.get(scheme, scheme.upper())
            assert kind == expected, name


def test_metadata_and_tokenizer_are_carried_over(compress):
    out = compress(smollm2_gguf(), "--scheme", "q5_0") / "model.gguf"
    assert fields_of(out) == fields_of(smollm2_gguf())
    fields = gguf.GGUFReader(out).fields
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q5_0
    assert fields["general.quantization_version"].contents() == gguf.GGML_QUANT_VERSION


def test_rows_keep_the_order_of_the_file(stories, compress):
    """Rounded as gguf-py rounds them: every byte, the paired rows of queries and keys among them."""
    tensors = tensors_of(compress(stories, "--scheme", "q8_0", "--preserve", "none") / "model.gguf")
    for name, tensor in tensors_of(stories).items():
        if len(tensor.shape) == 1:
            numpy.testing.assert_array_equal(tensors[name].data, tensor.data, err_msg=name)
        elif tensors[name].tensor_type == gguf.GGMLQuantizationType.Q8_0:
            expected = gguf.quantize(values_of(tensor), gguf.GGMLQuantizationType.Q8_0)
            numpy.testing.assert_array_equal(tensors[name].data, expected, err_msg=name)


def test_a_donor_makes_the_same_file_of_safetensors(shared, stories, compress):
    options = ("--scheme", "q4_1", "--preserve", "none", "--scale", "minmax")
    donated = compress(shared / "models/stories260k/hf-f32", *options, "--gguf-donor", str(stories))
    own = compress(stories, *options)
    assert (donated / "model.gguf").read_bytes() == (own / "model.gguf").read_bytes()


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen2", "qwen3_moe", "gemma2", "phi3"])
def test_families_with_a_donor(family, shared, compress, tmp_path):
    """What the converter does to a family's tensors, done by us: to the last bit of F16."""
    directory = shared / "oracles/families" / family
    write_gguf(directory, tmp_path / "donor.gguf")
    out = compress(directory, "--scheme", "f16", "--preserve", "none", "--gguf-donor",
                   str(tmp_path / "donor.gguf"))
    tensors = tensors_of(out / "model.gguf")
    for name, tensor in tensors_of(tmp_path / "donor.gguf").items():
        expected = values_of(tensor)
        if tensors[name].tensor_type == gguf.GGMLQuantizationType.F16:
            expected = expected.astype(numpy.float16).astype(numpy.float32)
        numpy.testing.assert_array_equal(values_of(tensors[name]), expected, err_msg=name)


def test_a_tokenizer_without_a_counterpart_is_refused_with_the_reason(shared, linchpin, tmp_path):
    result = linchpin.run("compress", shared / "models/tinystories-656k/bf16", tmp_path / "out",
                          "--format", "gguf")
    assert result.code == 42
    assert "looked for in normalized text" in result.error and "--gguf-donor" in result.error
    assert not (tmp_path / "out").exists()


def test_a_donor_of_another_model_is_refused(shared, stories, linchpin, tmp_path):
    result = linchpin.run("compress", shared / "models/tinystories-656k", tmp_path / "out",
                          "--format", "gguf", "--gguf-donor", stories)
    assert result.code == 42 and "hidden size" in result.error


def test_the_adapter_restores_the_super_weights(compress, token_ids, linchpin, tmp_path):
    out = compress(smollm2_gguf(), "--scheme", "q4_0", "--preserve", "lora")
    manifest = json.loads((out / "linchpin.json").read_text(encoding="utf-8"))
    assert {(kept["row"], kept["column"]) for kept in manifest["super_weights"]} == set(
        SUPER_WEIGHTS)
    for kept in manifest["super_weights"]:
        assert kept["kept"] == "lora" and kept["exact"], kept
    base = values_of(tensors_of(out / "model.gguf")[FFN_DOWN])
    source = values_of(tensors_of(smollm2_gguf())[FFN_DOWN])
    factors = tensors_of(out / "super-weights-lora.gguf")
    added = (factors[f"{FFN_DOWN}.lora_b"].data @ factors[f"{FFN_DOWN}.lora_a"].data)
    assert numpy.count_nonzero(added) == len(SUPER_WEIGHTS)
    for row, column in SUPER_WEIGHTS:
        assert base[row, column] + added[row, column] == source[row, column]

    ids = token_ids(smollm2_gguf(), 256)
    twin, adapter = in_16_bits(compress, out / "model.gguf"), out / "super-weights-lora.gguf"
    without, with_adapter = llama_loss(twin, ids), llama_loss(twin, ids, adapter)
    kept = our_loss(linchpin, as_checkpoint(out / "model.gguf", added, tmp_path / "kept"), ids, tmp_path)
    print(f"without {without:.4f}, with the adapter {with_adapter:.4f}, the same in one {kept:.4f}")
    assert without > with_adapter + 3
    assert with_adapter == pytest.approx(kept, abs=TOLERANCE)


def as_checkpoint(model, added, directory):
    """What a file of SmolLM2 holds, by ggml, with so much added to the super weights' tensor, in float32."""
    config, tensors = read_gguf(model, ggml_floats)
    tensors[DOWN_PROJ] = tensors[DOWN_PROJ] + added
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: torch.from_numpy(numpy.array(values, numpy.float32)) for name, values in tensors.items()},
              directory / "model.safetensors", {"format": "pt"})
    return directory


def test_compressed_tensors_from_gguf_have_a_config_and_a_tokenizer(linchpin, shared, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", smollm2_gguf(), out, "--scheme", "w4a16")
    assert linchpin("verify", out).code == 0
    tokenizer = AutoTokenizer.from_pretrained(out)
    text = (shared / "text/tinystories_sample_cs336.txt").read_text(encoding="utf-8")[:600]
    ids = [1] + tokenizer(text, add_special_tokens=False).input_ids[:95]
    source = smollm2("f32")
    logits, expected = (logits_of(model, ids) for model in (out, dense(source, out, tmp_path / "dense")))
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
    (tmp_path / "lists.json").write_text(json.dumps([ids]), encoding="utf-8")
    ours = linchpin("evaluate", out, "--tokens", tmp_path / "lists.json", "--json").json["loss"]
    check_loss(out, ids, ours)
    # And the codes are those of what was given.
    weights, tensors = load_file(source / "model.safetensors"), quantized_tensors(out)
    for name, weight in weights.items():
        if name + "_scale" in tensors:
            off = (restored(tensors, name) - weight).norm() / weight.norm()
            assert off < MOST_LOST, (name, off)
        else:
            assert torch.equal(tensors[name], weight.to(tensors[name].dtype)), name


def logits_of(directory, ids):
    with torch.no_grad():
        return load_in_transformers(directory, unpack=False)(torch.tensor([ids]), use_cache=False).logits[0]


def test_dense_from_gguf_is_the_model_itself(linchpin, stories, tmp_path):
    linchpin("compress", stories, tmp_path / "out", "--format", "dense", "--scheme", "bf16",
             "--preserve", "none")
    tensors = read_tensors(tmp_path / "out")
    assert tensors["model.layers.0.self_attn.q_proj.weight"].shape == (64, 64)
    exact = read_tensors(stories.parent / "hf-f32")
    for name, expected in exact.items():
        if name in tensors:
            numpy.testing.assert_allclose(tensors[name], expected, rtol=2 ** -8, atol=1e-30,
                                          err_msg=name)
