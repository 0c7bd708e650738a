"""A byte-level tokenizer with a token for every byte, and few others."""

import json

import tokenizers

ROWS = 272  # of an embedding that holds it
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
              "use_regex": True}


def byte_tokenizer(directory, size):
    """Writes it as that of the model in `directory`, whose embedding has `size` rows."""
    characters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("t", "he"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("an", "d")]
    tokens = ["<unk>", "<s>", "</s>", *characters, *(a + b for a, b in merges)]
    assert len(tokens) <= size
    document = {
        "added_tokens": [{"id": i, "content": t, "special": True} for i, t in
                         enumerate(tokens[:3])],
        "pre_tokenizer": BYTE_LEVEL, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [list(pair) for pair in merges]}}
    (directory / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": [
        {"name": "tool", "template": "no"}, {"name": "default", "template": "{{ messages }}"}]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
