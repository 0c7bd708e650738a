"""How far what `linchpin compress` writes by default lies from its source: the divergence of SmolLM2's
predictions, scheme by scheme, below a ceiling.

Weights are decoded by this folder's own code or by gguf-py and put into the source in transformers; activations
are not rounded, for then a ceiling would hold a draw of chance.  The source lies on no grid (smollm2_dithered).
A ceiling is 15 % above what was measured, and below what minmax gives wherever importance
has a say (not in q8_0 and blocks), so that a scale that is no longer weighed by it is seen."""

import os

os.environ["TQDM_DISABLE"] = "1"  # before the libraries below read it

import gguf
import pytest
import torch
from tokenizers import Tokenizer

from support.quantized_models import load_in_transformers, restored, tensors_of
from support.smollm2 import smollm2_dithered, split_rotary, transformers_name

TOKENS = 512
BLOCKS = ["--format", "dense", "--scheme", "blocks", "--block", "128x128", "--bits", "8", "--z", "9"]


def as_gguf(scheme):
    return ["--format", "gguf", "--scheme", scheme]


# name: (options, ceiling in nats)
CEILINGS = {
    "w4a16": ([], 0.2052),
    "asymmetric": (["--asymmetric"], 0.186),
    "w8a16": (["--scheme", "w8a16"], 0.000833),
    "w8a8": (["--scheme", "w8a8"], 0.002607),
    "fp8": (["--scheme", "fp8"], 0.00997),
    "blocks": (BLOCKS, 1.11),
    "q4_0": (as_gguf("q4_0"), 0.1527),
    "q4_1": (as_gguf("q4_1"), 0.0774),
    "q5_0": (as_gguf("q5_0"), 0.0414),
    "q5_1": (as_gguf("q5_1"), 0.01836),
    "q8_0": (as_gguf("q8_0"), 0.00107),
    "q4_k": (as_gguf("q4_k"), 0.0543),
    "q5_k": (as_gguf("q5_k"), 0.01813),
    "q6_k": (as_gguf("q6_k"), 0.0026),
}


class Source:
    """The model, what it predicts over a text, and how far it is from there with other weights."""

    def __init__(self, directory, text):
        self.model = load_in_transformers(directory, unpack=False)
        encoder = Tokenizer.from_file(str(directory / "tokenizer.json"))
        ids = encoder.encode(text, add_special_tokens=False).ids[:TOKENS - 1]
        self.tokens = torch.tensor([[self.model.config.bos_token_id, *ids]])
        self.names = tensors_of(directory).keys()
        self.expected = self.predictions()

    def predictions(self):
        """[token, vocabulary]: logarithms of probabilities."""
        with torch.no_grad():
            return self.model(self.tokens, use_cache=False).logits[0].log_softmax(1)

    def divergence(self, weights):
        """Of a model of these weights, nats per token; `weights` has every tensor that the source has."""
        assert weights.keys() == self.names
        self.model.load_state_dict(weights, strict=False)  # the head is the embedding
        found = self.predictions()
        return (self.expected.exp() * (self.expected - found)).sum(1).mean().item()


@pytest.fixture(name="source", scope="module")
def source_fixture(shared):
    text = (shared / "text/wikitext-2-test.txt").read_text(encoding="utf-8")[:4000]
    return Source(smollm2_dithered(), text)


def from_safetensors(directory):
    tensors = tensors_of(directory)
    names = {name.removesuffix("_packed").removesuffix("_scale") for name in tensors
             if not name.endswith(("_shape", "_zero_point"))}
    return {name: restored(tensors, name) if name + "_scale" in tensors else tensors[name].float()
            for name in names}


def from_gguf(path, heads, kv_heads):
    weights = {}
    for tensor in gguf.GGUFReader(path).tensors:
        name, array = transformers_name(tensor.name), gguf.dequantize(tensor.data, tensor.tensor_type)
        count = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
        weights[name] = torch.from_numpy(split_rotary(array, count) if count else array.copy())
    return weights


def weights_in(directory, config):
    path = directory / "model.gguf"
    if path.exists():
        return from_gguf(path, config.num_attention_heads, config.num_key_value_heads)
    return from_safetensors(directory)


@pytest.mark.parametrize("name", CEILINGS)
def test_the_default_stays_near_its_source(source, compressed, name):
    options, ceiling = CEILINGS[name]
    out = compressed(smollm2_dithered(), *options)
    divergence = source.divergence(weights_in(out, source.model.config))
    print(f"{name}: {divergence:.5f}")
    assert divergence <= ceiling
