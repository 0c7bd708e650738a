"""Our token ids against those of the tokenizers library, on real files and on texts made to hurt.

LINCHPIN_BUILD is the build directory (default build/dev), LINCHPIN_SHARED the shared folder.
"""

import json
import os
import pathlib
import random
import subprocess

import pytest
import tokenizers

from support.smollm2 import smollm2

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = SOURCE / os.environ.get("LINCHPIN_BUILD", "build/dev")
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


def ours(tokenizer_json, texts):
    """One list of ids for each text."""
    result = subprocess.run([BUILD / "tests/tokenize", tokenizer_json],
                            input=b"".join(t.encode() + b"\0" for t in texts),
                            capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return [[int(i) for i in line.split()] for line in result.stdout.decode().splitlines()]


def theirs(tokenizer_json, texts):
    reference = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    return [reference.encode(text, add_special_tokens=False).ids for text in texts]


def assert_same(tokenizer_json, texts):
    for text, a, b in zip(texts, ours(tokenizer_json, texts), theirs(tokenizer_json, texts),
                          strict=True):
        assert a == b, repr(text[:200])


def tokenizer_file(name):
    if name == "smollm2":
        return smollm2("bf16") / "tokenizer.json"
    return SHARED / "models" / name / "tokenizer.json"


def awkward_texts(specials):
    """Blanks, line ends, scripts, emoji, digits, unknown characters and special tokens, mixed."""
    rng = random.Random(7)
    # U+180E is left out: a blank by PCRE2, not by Unicode since 6.3.
    parts = ["Hello", "the", "don't", "WE'LL", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\x0b",
             "0", "42", "1234567", "3.14", "½", "٣", "é", "e\u0301", "ß", "ſ", "漢字", "カナ",
             "한국어", "Привет", "עברית", "हिन्दी", "🙂", "👩‍👩‍👧", "\u00a0", "\u2003", "\u3000",
             "\u200b", "\ufeff", "\ufffd", "\U0010ffff", "\x01", "\x7f", "_", "--", "...", "'", "\"",
             "<", ">", "\u2581", "<0x0A>", "{}[]", "http://a.b/c?d=e&f", *specials]
    texts = ["", " ", "\n", "a", " a", "a ", "\u2581", "'s", "s's 's  's"]
    texts += ["".join(rng.choices(parts, k=rng.randint(1, 30))) for _ in range(400)]
    texts += ["".join(chr(rng.choice([rng.randint(1, 0x17f), rng.randint(0x2000, 0x303f),
                                      rng.randint(0x1f300, 0x1f6ff)])) for _ in range(80))
              for _ in range(50)]
    return texts


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
