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

from support.build import tool
from support.gguf_models import read_tensors, write_gguf
from support.llama_cpp import llama_cpp
from support.npm import NODE
from support.smollm2 import smollm2_gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16"]
# Types of a matrix whose rows are no multiple of 256, as llama.cpp has them.
GIVES_WAY = {"q4_k": "Q5_0", "q5_k": "Q5_1", "q6_k": "Q8_0"}
DOWN_PROJ = "model.layers.11.mlp.down_proj.weight"
FFN_DOWN = "blk.11.ffn_down.weight"
SUPER_WEIGHTS = [(507, 1229), (507, 1487)]
TOLERANCE = 5e-3  # nats
# What llama.cpp's rounding may do to the loss of SmolLM2, ten times what it was seen to do on one processor: it
# rounds the activations that meet quantized weights to 8 bits, 32 at a time, and a super activation leaves its
# neighbours few of them.
ROUNDING = 0.1


@pytest.fixture(name="stories", scope="module")
def stories_fixture(shared):
    return shared / "models/stories260k/stories260K-f32.gguf"


@pytest.fixture(name="compress", scope="module")
def compress_fixture(linchpin, tmp_path_factory):
    """compress(model, option, value, ...): the output directory, made once per choice."""
    made = {}

    def compress(model, *options):
        key = (str(model), *options)
        if key not in made:
            out = tmp_path_factory.mktemp("gguf") / "out"
            linchpin("compress", model, out, "--format", "gguf", *options)
            assert linchpin("verify", out).code == 0
            made[key] = out
        return made[key]

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


def check_on_smollm2(scheme, model, compress, token_ids, linchpin, tmp_path):
    """The weights that were written are held to the bound by themselves: dequantized by us and
    written in 16 bits, which llama.cpp multiplies without rounding what they meet."""
    ids = token_ids(smollm2_gguf(), 128)
    ours, theirs = our_loss(linchpin, model, ids, tmp_path), llama_loss(model, ids)
    print(f"{scheme}: ours {ours:.4f}, llama.cpp {theirs:.4f}")
    if scheme.endswith("f16"):
        assert theirs == pytest.approx(ours, abs=TOLERANCE)
        return
    twin = llama_loss(compress(model, "--scheme", "f16", "--preserve", "none") / "model.gguf", ids)
    print(f"{scheme}: in 16 bits {twin:.4f}")
    assert twin == pytest.approx(ours, abs=TOLERANCE)
    assert theirs == pytest.approx(twin, abs=ROUNDING)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_llama_cpp_gives_our_loss_on_smollm2(scheme, compress, token_ids, linchpin, tmp_path):
    model = compress(smollm2_gguf(), "--scheme", scheme) / "model.gguf"
    check_on_smollm2(scheme, model, compress, token_ids, linchpin, tmp_path)


def test_llama_cpp_gives_our_loss_where_norms_are_scaled(compress, token_ids, linchpin, tmp_path):
    model = compress(smollm2_gguf(), "--scheme", "q4_0", "--equalize") / "model.gguf"
    for norm in ("blk.11.attn_norm.weight", "blk.11.ffn_norm.weight"):
        before, after = (tensors_of(path)[norm].data for path in (smollm2_gguf(), model))
        scaled = set((after / before).tolist())
        assert len(scaled) > 1 and scaled <= {0.25, 0.5, 1, 2, 4}
    check_on_smollm2("q4_0", model, compress, token_ids, linchpin, tmp_path)


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
    without = llama_loss(out / "model.gguf", ids)
    restored = llama_loss(out / "model.gguf", ids, out / "super-weights-lora.gguf")
    kept = our_loss(linchpin, compress(smollm2_gguf(), "--scheme", "q4_0") / "model.gguf", ids,
                    tmp_path)
    print(f"without {without:.4f}, with the adapter {restored:.4f}, tensor kept {kept:.4f}")
    assert without > restored + 3
    assert restored == pytest.approx(kept, abs=0.2)


def test_compressed_tensors_from_gguf_have_a_config_and_a_tokenizer(linchpin, shared, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", smollm2_gguf(), out, "--scheme", "w4a16")
    assert linchpin("verify", out).code == 0
    from transformers import AutoModelForCausalLM, AutoTokenizer
    import torch
    model, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32,
                                                       output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    text = (shared / "text/tinystories_sample_cs336.txt").read_text(encoding="utf-8")[:600]
    ids = [1] + tokenizer(text, add_special_tokens=False).input_ids[:95]
    with torch.no_grad():
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps([ids]), encoding="utf-8")
    original = linchpin("evaluate", smollm2_gguf(), "--tokens", lists, "--json").json["loss"]
    print(f"original {original:.4f}, w4a16 in transformers {loss:.4f}")
    assert abs(loss - original) < 0.4


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
