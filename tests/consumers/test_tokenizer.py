"""Our token ids against those of the tokenizers library, on real files and on texts made to hurt.

LINCHPIN_SHARED is the shared folder.
"""

import json
import os
import pathlib
import subprocess

import gguf
import numpy
import pytest
import tokenizers

from support.build import tool
from support.awkward_texts import awkward_texts
from support.smollm2 import smollm2, smollm2_gguf

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SHARED = SOURCE / os.environ.get("LINCHPIN_SHARED", "../shared")

TEXTS = ["tinystories_sample_cs336.txt", "tinystories_train_head.txt", "wikitext-2-test.txt"]

# The split patterns of published models, none of which is at hand as a file.
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
              "use_regex": True}
PRE_TOKENIZERS = {
    "prefix": {**BYTE_LEVEL, "add_prefix_space": True},
    "digits": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
    "digit-runs": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": False}, BYTE_LEVEL]},
    "llama3": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {**BYTE_LEVEL, "use_regex": False}]},
    "removed": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\d+"}, "behavior": "Removed", "invert": False},
        BYTE_LEVEL]},
    "kept": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Removed", "invert": True},
        {**BYTE_LEVEL, "use_regex": False}]},
}


def ours(source, texts):
    """One list of ids for each text."""
    result = subprocess.run([tool("tokenize"), source],
                            input=b"".join(t.encode() + b"\0" for t in texts),
                            capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return [[int(i) for i in line.split()] for line in result.stdout.decode().splitlines()]


def theirs(tokenizer_json, texts):
    reference = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    return [reference.encode(text, add_special_tokens=False).ids for text in texts]


def assert_same(tokenizer_json, texts, source=None):
    for text, a, b in zip(texts, ours(source or tokenizer_json, texts),
                          theirs(tokenizer_json, texts), strict=True):
        assert a == b, repr(text[:200])


def tokenizer_file(name):
    if name == "smollm2":
        return smollm2("bf16") / "tokenizer.json"
    return SHARED / "models" / name / "tokenizer.json"


def specials_of(tokenizer_json):
    return [t["content"] for t in json.loads(tokenizer_json.read_text())["added_tokens"]][:6]


@pytest.mark.parametrize("name", ["tinystories-656k", "stories260k/hf-f32", "smollm2"])
def test_whole_texts(name):
    assert_same(tokenizer_file(name), [(SHARED / "text" / t).read_text() for t in TEXTS])


@pytest.mark.parametrize("name", ["tinystories-656k", "stories260k/hf-f32", "smollm2"])
def test_awkward_texts(name):
    path = tokenizer_file(name)
    assert_same(path, awkward_texts(specials_of(path)))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_pre_tokenizers(name, tmp_path):
    path = tokenizer_file("smollm2")
    document = json.loads(path.read_text())
    document["pre_tokenizer"] = PRE_TOKENIZERS[name]
    changed = tmp_path / "tokenizer.json"
    changed.write_text(json.dumps(document))
    text = (SHARED / "text" / TEXTS[0]).read_text()
    assert_same(changed, [text, *awkward_texts(specials_of(path))])


@pytest.mark.parametrize("change", [
    {"byte_fallback": False}, {"byte_fallback": False, "fuse_unk": False}, {"ignore_merges": True}])
def test_model_options(change, tmp_path):
    document = json.loads(tokenizer_file("stories260k/hf-f32").read_text())
    document["model"].update(change)
    changed = tmp_path / "tokenizer.json"
    changed.write_text(json.dumps(document))
    assert_same(changed, awkward_texts(["<s>", "</s>"]))


# The vocabulary of a GGUF file against the tokenizer.json of the same model.
def test_sentencepiece_from_gguf():
    source = SHARED / "models/stories260k/stories260K-f32.gguf"
    path = tokenizer_file("stories260k/hf-f32")
    texts = [(SHARED / "text" / t).read_text() for t in TEXTS]
    assert_same(path, [*texts, *awkward_texts(specials_of(path))], source)


def test_byte_level_from_gguf(tmp_path):
    path = tmp_path / "tokenizer.json"
    document = json.loads(tokenizer_file("smollm2").read_text())
    # transformers, which made this file from the same GGUF, does not know of the digits.
    document["pre_tokenizer"] = PRE_TOKENIZERS["digits"]
    path.write_text(json.dumps(document))
    texts = [(SHARED / "text" / t).read_text() for t in TEXTS]
    assert_same(path, [*texts, *awkward_texts(specials_of(path))], smollm2_gguf())


# Every known name of a split pattern, in a GGUF file with the merges of SmolLM2.
@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2"])
def test_split_patterns_from_gguf(name, tmp_path):
    document = json.loads(tokenizer_file("smollm2").read_text())
    model = document["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].get)
    specials = {t["content"] for t in document["added_tokens"]}
    source = tmp_path / "model.gguf"
    types = [3 if token in specials else 1 for token in vocabulary]
    write_gguf_vocabulary(source, vocabulary, types, name,
                          [" ".join(pair) for pair in model["merges"]])
    digits = {"llama-bpe": "{1,3}", "dbrx": "{1,3}", "qwen2": ""}
    if name in digits:
        document["pre_tokenizer"] = PRE_TOKENIZERS["llama3"]
        pattern = LLAMA3.replace("{1,3}", digits[name])
        document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
    else:
        document["pre_tokenizer"] = PRE_TOKENIZERS["digits"] if name == "smollm" else BYTE_LEVEL
    model["ignore_merges"] = name == "llama-bpe"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    text = (SHARED / "text" / TEXTS[0]).read_text()
    assert_same(path, [text, *awkward_texts(sorted(specials)[:6])], source)


def write_gguf_vocabulary(path, tokens, types, pre, merges):
    """A model of nothing but a byte-level vocabulary."""
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in [(writer.add_embedding_length, 2), (writer.add_block_count, 1),
                       (writer.add_head_count, 1), (writer.add_layer_norm_rms_eps, 1e-6)]:
        add(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_tokenizer_pre(pre)
    writer.add_token_merges(merges)
    writer.add_tensor("token_embd.weight", numpy.zeros((len(tokens), 2), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
