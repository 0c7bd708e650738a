"""GGUF files that gguf-py writes, read back by us as the Hugging Face models that they come from.

LINCHPIN_SHARED is the shared folder.
"""

import json
import os
import pathlib
import subprocess

import gguf
import numpy
import pytest

from support.build import tool
from support.ggml_floats import assert_same_bits, ggml_floats
from support.gguf_models import read_tensors, write_gguf
from support.smollm2 import smollm2, smollm2_gguf

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SHARED = SOURCE / os.environ.get("LINCHPIN_SHARED", "../shared")

FAMILIES = ["llama", "llama3", "llama_tied_bias", "mistral", "mixtral", "qwen2", "qwen3",
            "qwen2_moe", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2"]

# The settings that a forward pass depends on.
MEANING = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
           "num_attention_heads", "num_key_value_heads", "vocab_size", "max_position_embeddings",
           "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "bos_token_id",
           "eos_token_id", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping",
           "query_pre_attn_scalar", "sliding_window_pattern", "rope_local_base_freq",
           "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size",
           "norm_topk_prob", "decoder_sparse_step"]
# A key that both may leave out, and what that means.
ABSENT = {"rope_scaling": None, "sliding_window": None, "attn_logit_softcapping": None,
          "final_logit_softcapping": None, "attention_bias": False, "mlp_bias": False}


def dump(path, tmp_path):
    """(config, {name: float32 array}) as our checkpoint gives them."""
    values = tmp_path / "values"
    result = subprocess.run([tool("dump_checkpoint"), path, values], capture_output=True,
                            check=False)
    assert result.returncode == 0, result.stderr.decode()
    document = json.loads(result.stdout)
    flat = numpy.fromfile(values, numpy.float32)
    tensors, at = {}, 0
    for name, shape in document["tensors"]:
        size = int(numpy.prod(shape))
        tensors[name] = flat[at:at + size].reshape(shape)
        at += size
    assert at == len(flat)
    return document["config"], tensors


def meaning(config):
    result = {key: config.get(key, ABSENT.get(key)) for key in MEANING}
    result["sliding_window"] = result["sliding_window"] or None
    result["attention_bias"] = bool(config.get("attention_bias"))
    result["mlp_bias"] = bool(config.get("mlp_bias"))
    result["head_dim"] = (config.get("head_dim")
                          or config["hidden_size"] // config["num_attention_heads"])
    result["act"] = config.get("hidden_activation") or config["hidden_act"]
    result["experts"] = config.get("num_experts") or config.get("num_local_experts")
    return result


def assert_same(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        if tolerance:
            numpy.testing.assert_allclose(ours[name], expected, err_msg=name, **tolerance)
        else:
            numpy.testing.assert_array_equal(ours[name], expected, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, shared, tmp_path):
    directory = shared / "oracles/families" / family
    write_gguf(directory, tmp_path / "model.gguf")
    config, tensors = dump(tmp_path / "model.gguf", tmp_path)
    theirs = read_tensors(directory)
    expected_config = json.loads((directory / "config.json").read_text())
    if expected_config["tie_word_embeddings"]:
        theirs.pop("lm_head.weight", None)
    # Adding one to a norm costs it the bits below.
    assert_same(tensors, theirs, **({"rtol": 0, "atol": 1.2e-7} if "gemma" in family else {}))
    ours, expected = meaning(config), meaning(expected_config)
    # How many positions Llama 3's rule started from is not stored: any number that gives the same.
    if family == "llama3":
        same_frequencies(config, expected_config)
        ours["rope_scaling"] = expected["rope_scaling"]
    assert ours == expected


def same_frequencies(config, expected):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def frequencies(each):
        rope = dict(each["rope_scaling"], rope_theta=each["rope_theta"])
        built = LlamaConfig(hidden_size=each["hidden_size"], head_dim=each["head_dim"],
                            num_attention_heads=each["num_attention_heads"], rope_parameters=rope)
        return ROPE_INIT_FUNCTIONS["llama3"](built, "cpu")[0].numpy()

    assert config["rope_scaling"]["rope_type"] == "llama3"
    numpy.testing.assert_allclose(frequencies(config), frequencies(expected), rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen2_moe", "gemma3_text", "phi3"])
@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantized_family(family, kind, shared, tmp_path):
    directory = shared / "oracles/families" / family
    write_gguf(directory, tmp_path / "model.gguf", kind)
    write_gguf(directory, tmp_path / "plain.gguf")
    _, tensors = dump(tmp_path / "model.gguf", tmp_path)
    _, plain = dump(tmp_path / "plain.gguf", tmp_path)
    kind = gguf.GGMLQuantizationType[kind]
    expected = {}
    for name, array in plain.items():
        rows = array.ndim == 2 and array.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        # A matrix of one row is stored as a vector.
        quantized = rows and "norm" not in name and "shared_expert_gate" not in name
        expected[name] = (gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind)
                          if quantized else array)
    assert_same(tensors, expected)


# Random bytes of every type, K and IQ4 too, in a model whose rows they divide.
@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ4_NL",
                                  "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_random_blocks(kind, tmp_path):
    kind = gguf.GGMLQuantizationType[kind]
    rng = numpy.random.default_rng(kind.value)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
    for add, value in [(writer.add_embedding_length, 256), (writer.add_block_count, 1),
                       (writer.add_head_count, 4), (writer.add_layer_norm_rms_eps, 1e-6)]:
        add(value)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    expected = {}
    for name, ours, rows, columns in [
            ("token_embd.weight", "model.embed_tokens.weight", 300, 256),
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", 256, 768)]:
        data = rng.integers(0, 256, (rows, columns // block * size), numpy.uint8)
        writer.add_tensor(name, data, raw_dtype=kind)
        with numpy.errstate(all="ignore"):  # some scales are not finite
            expected[ours] = gguf.quants.dequantize(data, kind)
        assert_same_bits(expected[ours], ggml_floats(data, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _, tensors = dump(tmp_path / "model.gguf", tmp_path)
    assert tensors.keys() == expected.keys()
    for name, values in tensors.items():
        assert_same_bits(values, expected[name], name)


def test_phi3_with_long_factors(shared, tmp_path):
    directory = shared / "oracles/families/phi3"
    config = json.loads((directory / "config.json").read_text())
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    long, short = [1.0 + i for i in range(half)], [1.0 + i / 4 for i in range(half)]
    config["rope_scaling"] = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
    changed = tmp_path / "hf"
    changed.mkdir()
    (changed / "config.json").write_text(json.dumps(config))
    for path in directory.glob("*.safetensors"):
        (changed / path.name).symlink_to(path)

    def extra(writer):
        writer.add_rope_scaling_attn_factors(1.25)
        writer.add_rope_scaling_orig_ctx_len(64)

    write_gguf(changed, tmp_path / "model.gguf", extra=extra)
    ours, _ = dump(tmp_path / "model.gguf", tmp_path)
    assert ours["original_max_position_embeddings"] == 64
    assert ours["rope_scaling"] == {
        "rope_type": "longrope", "long_factor": long, "short_factor": short,
        "attention_factor": 1.25, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("layers", [None, [True, True, False, True, True, False, True]])
def test_gemma3_with_a_pattern(layers, shared, tmp_path):
    def extra(writer):
        writer.add_sliding_window_pattern(layers or 4)

    write_gguf(shared / "oracles/families/gemma3_text", tmp_path / "model.gguf", extra=extra)
    config, _ = dump(tmp_path / "model.gguf", tmp_path)
    if layers is None:
        assert config["sliding_window_pattern"] == 4
    else:
        assert config["layer_types"] == [
            "sliding_attention" if each else "full_attention" for each in layers]


# The real thing: Q4_1 with a table in Q8_0, against what gguf-py makes of it.
def test_smollm2(tmp_path):
    config, tensors = dump(smollm2_gguf(), tmp_path)
    assert_same(tensors, read_tensors(smollm2("f32")))
    expected = json.loads((smollm2("f32") / "config.json").read_text())
    assert meaning(config) == meaning(expected)


def test_stories260k(shared, tmp_path):
    config, tensors = dump(shared / "models/stories260k/stories260K-f32.gguf", tmp_path)
    directory = shared / "models/stories260k/hf-f32"
    assert_same(tensors, read_tensors(directory))
    assert meaning(config) == meaning(json.loads((directory / "config.json").read_text()))


def assert_close(ours, theirs, where=""):
    """Equal but for the last bits of numbers."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_close(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for i, value in enumerate(theirs):
            assert_close(ours[i], value, f"{where}[{i}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4), where
    else:
        assert ours == theirs, where


# The same activations layer by layer, from either file.
@pytest.mark.parametrize("family", FAMILIES)
def test_detection_in_a_family(family, shared, tmp_path, linchpin):
    directory = shared / "oracles/families" / family
    write_gguf(directory, tmp_path / "model.gguf")
    options = ["--tokens", "1,7,3,20,11,5", "--json"]
    theirs = linchpin("detect", directory, *options).json
    ours = linchpin("detect", tmp_path / "model.gguf", *options).json
    assert len(theirs["layers"]) > 3
    assert_close(ours["layers"], theirs["layers"])


def test_detection_in_smollm2(linchpin):
    found = linchpin("detect", smollm2_gguf(), "--json").json["super_weights"]
    assert [(w["layer"], w["row"], w["column"]) for w in found] == [
        (11, 507, 1229), (11, 507, 1487)]
    assert found[0]["value"] == pytest.approx(5.8757, abs=1e-4)
    assert found[0]["output"] == pytest.approx(24881.6, rel=1e-3)


def test_a_text_is_read_with_the_vocabulary_of_the_file(linchpin):
    text = ["--text", "The capital of France is Paris.", "--json"]
    ours = linchpin("detect", smollm2_gguf(), *text).json
    theirs = linchpin("detect", smollm2("f32"), *text).json
    assert_close(ours["layers"], theirs["layers"])
