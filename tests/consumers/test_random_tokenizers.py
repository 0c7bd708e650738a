"""Our token ids against those of the tokenizers library, with random vocabularies on random Unicode.

LINCHPIN_SEEDS sets how many tokenizers of each kind (default 16); each is made from its number alone.
"""

import json
import os
import random

import pytest
import tokenizers

from consumers.test_tokenizer import BYTE_LEVEL, PRE_TOKENIZERS, assert_same
from support.awkward_texts import random_texts

SEEDS = int(os.environ.get("LINCHPIN_SEEDS", "16"))
BYTE_LEVELS = [BYTE_LEVEL, *PRE_TOKENIZERS.values(),
               {**BYTE_LEVEL, "use_regex": False}, {**BYTE_LEVEL, "use_regex": False,
                                                    "add_prefix_space": True}]
UNDERSCORE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
PREPENDED = {"type": "Prepend", "prepend": "\u2581"}
NORMALIZERS = [
    {"type": "Sequence", "normalizers": [PREPENDED, UNDERSCORE]},
    {"type": "Sequence", "normalizers": [UNDERSCORE, PREPENDED]}, UNDERSCORE, None,
    {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "aa"}, "content": "a"}, UNDERSCORE]}]


def merges_of(rng, words, count):
    """Pairs that stand side by side in the words, as training finds them, in any order."""
    words = [list(word) for word in words if word]
    merges = []
    for _ in range(count):
        long = [word for word in words if len(word) > 1]
        if not long:
            break
        word = rng.choice(long)
        at = rng.randrange(len(word) - 1)
        pair = word[at], word[at + 1]
        if pair in merges:
            continue
        merges.append(pair)
        words = [joined(word, pair) for word in words]
    if rng.random() < 0.5:
        rng.shuffle(merges)
    return merges


def joined(word, pair):
    result = []
    for symbol in word:
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return result


def vocabulary_of(first, merges):
    tokens = dict.fromkeys([*first, *(part for pair in merges for part in (*pair, "".join(pair)))])
    return {token: i for i, token in enumerate(tokens)}


def added_tokens(rng, vocabulary, texts):
    """Of the texts' own pieces, some of which begin alike, and of what the vocabulary has."""
    contents = []
    for _ in range(rng.choice([0, 1, 4, 12])):
        text = rng.choice(texts)
        at = rng.randrange(len(text))
        contents.append(text[at:at + rng.randint(1, 6)])
        if rng.random() < 0.3:
            contents.append(contents[-1] + rng.choice(text))
        if rng.random() < 0.2:
            contents.append(rng.choice(sorted(vocabulary)))
    tokens, next_id = [], len(vocabulary)
    for content in dict.fromkeys(contents):
        if content not in vocabulary:
            next_id += 1
        tokens.append({"id": vocabulary.get(content, next_id - 1), "content": content,
                       "single_word": False, "lstrip": False, "rstrip": False,
                       "normalized": rng.random() < 0.5, "special": rng.random() < 0.5})
    return sorted(tokens, key=lambda token: token["id"])


def document_of(rng, texts, normalizer, pre_tokenizer, model, first):
    """A tokenizer.json whose merges come from what its normalizer and pre-tokenizer make of the texts."""
    document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None,
                "decoder": None, "model": {"type": "BPE", "dropout": None, "unk_token": None,
                                           "continuing_subword_prefix": None,
                                           "end_of_word_suffix": None, "fuse_unk": False,
                                           "byte_fallback": False, "vocab": {}, "merges": []}}
    bare = tokenizers.Tokenizer.from_str(json.dumps(document))
    words = []
    for text in texts:
        text = bare.normalizer.normalize_str(text) if bare.normalizer else text
        words += ([word for word, _ in bare.pre_tokenizer.pre_tokenize_str(text)]
                  if bare.pre_tokenizer else [text])
    merges = merges_of(rng, rng.sample(words, min(len(words), 300)), rng.choice([0, 30, 200]))
    # Some words are tokens that no merges make.
    vocabulary = vocabulary_of([*first, *rng.sample(words, min(len(words), 20))], merges)
    as_text = rng.random() < 0.5 and not any(" " in part for pair in merges for part in pair)
    document["model"] |= model | {
        "vocab": vocabulary, "ignore_merges": rng.random() < 0.3,
        "merges": [" ".join(pair) if as_text else list(pair) for pair in merges]}
    document["added_tokens"] = added_tokens(rng, vocabulary, texts)
    return document


def byte_level(rng, texts):
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    kept = alphabet if rng.random() < 0.7 else rng.sample(alphabet, 200)
    unknown = {"unk_token": kept[0], "fuse_unk": rng.random() < 0.5} if rng.random() < 0.3 else {}
    return document_of(rng, texts, rng.choice([None, None, NORMALIZERS[-1]]),
                       rng.choice(BYTE_LEVELS), unknown, kept)


def sentencepiece_like(rng, texts):
    characters = sorted(set("".join(texts)) | {"\u2581"})
    known = rng.sample(characters, len(characters) * 2 // 3)
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = rng.choice([pieces, pieces, rng.sample(pieces, 200), []])
    model = {"byte_fallback": rng.random() < 0.7, "fuse_unk": rng.random() < 0.5,
             "unk_token": "<unk>" if rng.random() < 0.8 else None}
    return document_of(rng, texts, rng.choice(NORMALIZERS), None, model,
                       ["<unk>", "<s>", "</s>", *pieces, *known])


@pytest.mark.parametrize("kind", [byte_level, sentencepiece_like], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_ids_of_a_random_tokenizer(kind, seed, tmp_path):
    rng = random.Random(seed)
    texts = random_texts(rng, 120)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(kind(rng, texts[:60])), encoding="utf-8")
    assert_same(path, texts)
