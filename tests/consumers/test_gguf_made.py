"""GGUF files that we make of safetensors without a donor: config.json and tokenizer.json in the words
of llama.cpp, held against llama.cpp, gguf-py, the tokenizers library and the files of others."""

import json
import os
import pathlib
import subprocess

import gguf
import numpy
import pytest
import tokenizers
import torch
from safetensors.torch import save_file

from support.awkward_texts import awkward_texts
from support.byte_tokenizer import BYTE_LEVEL, ROWS, byte_tokenizer
from support.gguf_models import read_tensors, write_gguf
from support.llama_cpp import llama_cpp
from support.npm import NODE
from support.smollm2 import smollm2, smollm2_gguf

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
TEXTS = ["tinystories_sample_cs336.txt", "tinystories_train_head.txt", "wikitext-2-test.txt"]
TOLERANCE = 5e-3  # nats
# Characters whose first bytes have no token in SmolLM2: what stands around them is joined here and
# not there, as the manifest says.  No text holds them.
NOT_OF_TEXTS = set("\x04\x06\x13\x14\x16\x1d\U0010ffff")
DIGITS = {"type": "Digits", "individual_digits": True}
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}@|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(digits):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT.replace("@", digits)}, "behavior": "Isolated",
         "invert": False}, BYTE_LEVEL | {"use_regex": False}]}


# What llama.cpp calls them: a tokenizer.json's pre_tokenizer and whether it ignores merges.
RULES = {"gpt-2": (BYTE_LEVEL, False),
         "smollm": ({"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}, False),
         "llama-bpe": (split("{1,3}"), True), "dbrx": (split("{1,3}"), False),
         "qwen2": (split(""), False)}
# Besides the embedding's size, what a file says of how it was quantized, by whom and of what.
NOT_OF_THE_MODEL = ("GGUF.", "general.name", "general.organization", "general.finetune",
                    "general.basename", "general.size_label", "general.license",
                    "general.languages", "general.file_type", "general.quantization_version",
                    "general.alignment", "general.type")


def run_node(script, *arguments):
    result = subprocess.run([NODE, SUPPORT / script, *arguments], capture_output=True, text=True,
                            check=False, env=os.environ | {"LLAMA_CPP": str(llama_cpp())})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def assert_same_tokens(model, tokenizer_json, texts, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    theirs = run_node("llama_tokens.mjs", model, tmp_path / "texts.json")
    reference = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    for text, ids in zip(texts, theirs, strict=True):
        assert ids == reference.encode(text, add_special_tokens=False).ids, repr(text[:200])


def fields_of(path):
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()
            if not key.startswith(NOT_OF_THE_MODEL)}


def tensors_of(path):
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
            for tensor in gguf.GGUFReader(path).tensors}


@pytest.fixture(name="make", scope="module")
def make_fixture(linchpin, tmp_path_factory):
    """make(model, scheme): the file, made once per choice."""
    made = {}

    def make(model, scheme="f16"):
        if (str(model), scheme) not in made:
            out = tmp_path_factory.mktemp("made") / "out"
            linchpin("compress", model, out, "--format", "gguf", "--scheme", scheme, "--preserve",
                     "none")
            assert linchpin("verify", out).code == 0
            made[str(model), scheme] = out / "model.gguf"
        return made[str(model), scheme]

    return make


@pytest.fixture(name="stories", scope="module")
def stories_fixture(shared):
    return shared / "models/stories260k/hf-f32"


def model_of(name, stories):
    return stories if name == "stories" else smollm2("bf16")


def test_stories_are_the_file_that_others_made(make, stories):
    """Metadata, vocabulary, scores and all weights."""
    ours, theirs = make(stories), stories.parent / "stories260K-f32.gguf"
    fields = fields_of(ours)
    assert fields.pop("tokenizer.ggml.add_space_prefix") is True  # what leaving it out means
    assert fields == fields_of(theirs)
    tensors = tensors_of(ours)
    for name, expected in tensors_of(theirs).items():
        kind = numpy.float32 if expected.ndim == 1 else numpy.float16
        numpy.testing.assert_array_equal(tensors[name], expected.astype(kind).astype("f4"),
                                         err_msg=name)
    assert tensors.keys() == tensors_of(theirs).keys()


def test_smollm2_is_the_file_that_others_made_but_for_its_digits(make):
    """Every key; tokenizer.json says that digits are not split off, so the name is gpt-2's."""
    fields = fields_of(make(smollm2("bf16")))
    assert fields.pop("tokenizer.ggml.add_eos_token") is False  # what leaving it out means
    theirs = fields_of(smollm2_gguf())
    assert (fields.pop("tokenizer.ggml.pre"), theirs.pop("tokenizer.ggml.pre")) == (
        "gpt-2", "smollm")
    assert fields == theirs


@pytest.mark.parametrize("name", ["stories", "smollm2"])
def test_llama_cpp_reads_text_as_the_tokenizers_library_does(name, make, stories, shared, tmp_path):
    model = model_of(name, stories)
    path = model / "tokenizer.json"
    specials = [t["content"] for t in json.loads(path.read_text())["added_tokens"]][:6]
    texts = [(shared / "text" / each).read_text(encoding="utf-8") for each in TEXTS]
    awkward = [text for text in awkward_texts(specials) if not NOT_OF_TEXTS & set(text)]
    assert len(awkward) > 200
    assert_same_tokens(make(model), path, [*texts, *awkward], tmp_path)


@pytest.mark.parametrize("name", ["stories", "smollm2"])
def test_llama_cpp_gives_our_loss(name, make, stories, shared, linchpin, tmp_path):
    model = model_of(name, stories)
    text = (shared / "text/tinystories_sample_cs336.txt").read_text(encoding="utf-8")
    encoder = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = [1] + encoder.encode(text, add_special_tokens=False).ids[:127]
    assert_our_loss(make(model), ids, linchpin, tmp_path)


def assert_our_loss(model, ids, linchpin, tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    (tmp_path / "lists.json").write_text(json.dumps([ids]), encoding="utf-8")
    ours = linchpin("evaluate", model, "--tokens", tmp_path / "lists.json", "--json").json["loss"]
    theirs = run_node("llama_loss.mjs", model, tmp_path / "ids.json")["loss"]
    print(f"ours {ours:.5f}, llama.cpp {theirs:.5f}")
    assert theirs == pytest.approx(ours, abs=TOLERANCE)


def with_vocabulary(source, target):
    """The checkpoint of a family with rows of the embedding for all bytes, and a tokenizer."""
    target.mkdir()
    with_rows(source, target, ROWS)
    byte_tokenizer(target, ROWS)
    return target


def with_rows(source, target, rows):
    """The checkpoint of a family with so many rows of the embedding, the last of them random."""
    config = json.loads((source / "config.json").read_text())
    tensors, rng = read_tensors(source), numpy.random.default_rng(4)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            more = rng.standard_normal((rows - len(tensors[name]), tensors[name].shape[1]))
            scale = tensors[name].std()
            tensors[name] = numpy.concatenate([tensors[name], (scale * more).astype("f4")])
    config["vocab_size"] = rows
    (target / "config.json").write_text(json.dumps(config))
    save_file({n: torch.from_numpy(t.copy()) for n, t in tensors.items()},
              target / "model.safetensors", {"format": "pt"})


FAMILIES = ["llama", "llama3", "llama_tied_bias", "mixtral", "qwen2", "qwen3", "qwen2_moe",
            "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_written_as_gguf_py_writes_it(family, make, shared, linchpin, tmp_path):
    model = with_vocabulary(shared / "oracles/families" / family, tmp_path / "model")
    out = make(model)
    write_gguf(model, tmp_path / "theirs.gguf")
    tensors, theirs = tensors_of(out), tensors_of(tmp_path / "theirs.gguf")
    assert tensors.keys() == theirs.keys()
    for name, expected in theirs.items():
        plain = expected.ndim == 1 or "ffn_gate_inp" in name
        kind = numpy.float32 if plain else numpy.float16
        # The converter computes rotary factors in float32.
        rtol = 1e-5 if name.startswith("rope") else 0
        numpy.testing.assert_allclose(tensors[name], expected.astype(kind).astype("f4"), rtol,
                                      0, err_msg=name)
    fields, wanted = fields_of(out), fields_of(tmp_path / "theirs.gguf")
    for key, value in wanted.items():
        if key.endswith(("key_length", "value_length")) and key not in fields:
            assert value == fields[key.split(".")[0] + ".embedding_length"] // fields[
                key.split(".")[0] + ".attention.head_count"]
        else:
            assert fields[key] == value, key
    assert fields["tokenizer.chat_template"] == "{{ messages }}"
    assert fields["tokenizer.ggml.tokens"][-1] == "[PAD271]"
    ids = json.loads((shared / "oracles/families" / family / "expected.json").read_text())[
        "token_ids"]
    assert_our_loss(out, ids, linchpin, tmp_path)


def changed(config, directory):
    """The llama of the oracles with other settings."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return directory


PAIRS = 8  # of channels that rotate together
ROTATIONS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "long": {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 64,
             "long_factor": [1.0 + i for i in range(PAIRS)],
             "short_factor": [1.0 + i / 4 for i in range(PAIRS)]},
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_scaled_rotations_mean_the_same_to_llama_cpp(name, make, shared, linchpin, tmp_path):
    model = with_vocabulary(shared / "oracles/families/llama", tmp_path / "model")
    changed({"rope_scaling": ROTATIONS[name]}, model)
    assert_our_loss(make(model), list(range(1, 25)), linchpin, tmp_path)


# What llama.cpp would run as another model: a family, what config.json says, and what is in the way.
OTHER_MODELS = {
    "window": ("mistral", {}, "see 6 others"),
    "window of experts": ("mixtral", {"sliding_window": 6}, "see 6 others"),
    "windows of some layers": ("qwen2", {"use_sliding_window": True, "sliding_window": 6,
                                         "max_window_layers": 2}, "see 6 others"),
    "dynamic rotation": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
                         "rope type"),
    "yarn's attention": ("llama", {"rope_scaling": ROTATIONS["yarn"] | {"attention_factor": 1.5}},
                         "attention factor"),
    "attention scale": ("gemma2", {"query_pre_attn_scalar": 7}, "attention scale"),
    "no soft caps": ("gemma2", {"attn_logit_softcapping": None}, "softcap"),
    "windows in no order": ("gemma3_text", {"layer_types": [
        "full_attention", "full_attention", *["sliding_attention"] * 5]}, "window of a layer"),
    "activation": ("llama", {"hidden_act": "gelu"}, "activation"),
    "experts' weights": ("qwen3_moe", {"norm_topk_prob": False}, "renormalization"),
    "another family": ("olmo", {}, "not written as GGUF"),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_what_llama_cpp_would_run_otherwise_is_refused(name, shared, linchpin, tmp_path):
    family, settings, reason = OTHER_MODELS[name]
    model = with_vocabulary(shared / "oracles/families" / family, tmp_path / "model")
    result = linchpin.run("plan", changed(settings, model), "--format", "gguf")
    assert result.code == 42, result.out
    assert reason in result.error and "choose another format" in result.error


@pytest.mark.parametrize("name", RULES)
def test_llama_cpp_splits_as_every_known_rule(name, make, shared, tmp_path):
    """SmolLM2's vocabulary, cut by the rules of others."""
    model = tmp_path / "model"
    model.mkdir()
    source = smollm2("bf16")
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    document["pre_tokenizer"], document["model"]["ignore_merges"] = RULES[name]
    (model / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    with_rows(shared / "oracles/families/llama_tied_bias", model, len(document["model"]["vocab"]))
    out = make(model)
    assert fields_of(out)["tokenizer.ggml.pre"] == name
    specials = [t["content"] for t in document["added_tokens"]][:6]
    texts = [(shared / "text" / TEXTS[0]).read_text(encoding="utf-8"),
             (shared / "text" / TEXTS[2]).read_text(encoding="utf-8")[:100000],
             *(each for each in awkward_texts(specials) if not NOT_OF_TEXTS & set(each))]
    assert len(texts) > 200
    assert_same_tokens(out, model / "tokenizer.json", texts, tmp_path)
