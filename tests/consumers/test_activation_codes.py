"""How activations are rounded, layer by layer: transformers with compressed-tensors runs an output of w8a8 or fp8,
and ours, given what goes into each of its linear layers, must round it to the same codes and come to the same
input of the next."""

import json

import pytest
from tokenizers import Tokenizer

from support.consumer_codes import check_codes, check_evaluated, check_layers
from support.quantized_models import dense

FAMILIES = ["llama", "gpt_neox", "phi3", "opt", "mixtral", "qwen2_moe"]
EXPERTS = ("mixtral", "qwen2_moe")  # transformers 5 reads none in int8
SCHEMES = ("w8a8", "fp8")


@pytest.fixture(name="tinystories")
def tinystories_fixture(shared):
    return shared / "models/tinystories-656k/bf16"


@pytest.fixture(name="ids")
def ids_fixture(tinystories, shared):
    text = (shared / "text/tinystories_sample_cs336.txt").read_text()[:500]
    encoder = Tokenizer.from_file(str(tinystories / "tokenizer.json"))
    return [1] + encoder.encode(text, add_special_tokens=False).ids[:31]


@pytest.mark.parametrize("family, scheme", [(family, scheme) for family in FAMILIES for scheme in SCHEMES
                                            if not (family in EXPERTS and scheme == "w8a8")])
def test_every_family_has_the_consumers_codes(linchpin, compressed, shared, tmp_path, family, scheme):
    source = shared / "oracles/families" / family
    ids = json.loads((source / "expected.json").read_text())["token_ids"]
    check_codes(linchpin, compressed(source, "--scheme", scheme), ids, tmp_path)


def test_a_model_of_llm_compressor_has_the_consumers_codes(linchpin, tinystories, ids, shared, tmp_path):
    check_codes(linchpin, shared / "oracles/llm-compressor/tinystories-656k-bf16-w8a8", ids, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_that_rounds_nothing_is_refused(linchpin, compressed, tinystories, ids, tmp_path, scheme):
    """The same weights as a dense model, whose activations nobody rounds: by its codes and by its loss."""
    out = compressed(tinystories, "--scheme", scheme)
    plain = dense(tinystories, out, tmp_path / "dense")
    with pytest.raises(AssertionError):
        check_layers(out, ids, tmp_path / "layers", model=plain)
    with pytest.raises(AssertionError):
        check_evaluated(linchpin, out, ids, tmp_path / "run", model=plain)
