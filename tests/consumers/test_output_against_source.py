"""What `linchpin compress` wrote against what it was given, by code that is not the product's: every scheme and
format, every rule, families of all kinds of projections and a trained model.

Losses of the output by two readers say that both read the same; here is what says that it is the source."""

import numpy
import pytest

from support.decoded_outputs import blocks_of, stored
from support.reference_encoder import clipped_blocks, narrowed
from support.source_oracle import (PACKED, check_blocks, check_packed, errors_of_blocks, gain_of_importance,
                                   gguf_cases, options_of, packed_cases, slots_of, sources)

# Largest errors of a tensor in parts of the tensor, plain and by importance: today's and a tenth more.
BOUNDS = {
    "w4a16 32": {"importance": (0.1032, 0.0933), "mse": (0.08994, 0.09052)},
    "w4a16 64": {"importance": (0.1091, 0.09728), "minmax": (0.1136, 0.1144)},
    "w4a16 128": {"importance": (0.113, 0.105), "signed": (0.1144, 0.1147)},
    "w4a16 channel": {"importance": (0.1175, 0.1133), "mse": (0.1143, 0.1144)},
    "asymmetric 32": {"importance": (0.1037, 0.08405), "mse": (0.0858, 0.08646)},
    "asymmetric 64": {"importance": (0.1087, 0.09444), "minmax": (0.1006, 0.1011)},
    "asymmetric 128": {"importance": (0.1126, 0.1029)},
    "asymmetric channel": {"importance": (0.1172, 0.1118), "mse": (0.1134, 0.1131)},
    "w8a16 32": {"importance": (0.006776, 0.005467), "mse": (0.005533, 0.005588)},
    "w8a16 64": {"importance": (0.008052, 0.006226), "minmax": (0.006699, 0.006721)},
    "w8a16 128": {"importance": (0.008437, 0.006919), "signed": (0.007139, 0.007161)},
    "w8a16 channel": {"importance": (0.009889, 0.007744), "mse": (0.007832, 0.007821)},
    "w8a8": {"importance": (0.009889, 0.007744), "mse": (0.007832, 0.007821),
             "minmax": (0.007953, 0.007975), "signed": (0.007887, 0.007898)},
    "fp8": {"importance": (0.02819, 0.02637), "mse": (0.02712, 0.02701),
            "minmax": (0.029, 0.02906), "signed": (0.02866, 0.02911)},
}
# Of channels behind its relu to which nothing ever comes, whose errors count for nothing.
OF_OPT = {
    "w8a16 32": {"importance": (0.01519, 0.005456)},
    "w8a16 64": {"importance": (0.0144, 0.006226)},
    "w8a16 128": {"importance": (0.01269, 0.006897)},
    "w8a16 channel": {"importance": (0.01206, 0.007546)},
    "w8a8": {"importance": (0.01206, 0.007546)},
}
# tinystories
TRAINED = {
    "w4a16 128": {"signed": (0.1385, 0.1643), "importance": (0.1381, 0.1371)},
    "asymmetric 128": {"minmax": (0.1257, 0.162), "importance": (0.1247, 0.1349)},
    "w8a16 32": {"signed": (0.006303, 0.008558), "importance": (0.006204, 0.006754)},
    "w8a8": {"signed": (0.008657, 0.00968), "importance": (0.008679, 0.008492)},
    "fp8": {"signed": (0.02861, 0.02879), "importance": (0.0276, 0.02581)},
}
GGUF_BOUNDS = {
    "q4_0": {"importance": (0.09934, 0.08722), "mse": (0.08938, 0.09027), "minmax": (0.09492, 0.09538)},
    "q4_1": {"importance": (0.08478, 0.07226), "mse": (0.07703, 0.07748), "minmax": (0.08638, 0.08721)},
    "q5_0": {"importance": (0.04853, 0.04241), "mse": (0.04412, 0.04486), "minmax": (0.0471, 0.04757)},
    "q5_1": {"importance": (0.04085, 0.03487), "mse": (0.03715, 0.03724), "minmax": (0.04176, 0.04215)},
    "q8_0": {"importance": (0.005918, 0.005973), "mse": (0.005918, 0.005973), "minmax": (0.005918, 0.005973)},
    "q4_k": {"importance": (0.08493, 0.07263), "mse": (0.07725, 0.0777), "minmax": (0.07789, 0.07841)},
    "q5_k": {"importance": (0.04184, 0.03695), "mse": (0.03796, 0.03815), "minmax": (0.04152, 0.04135)},
    "q6_k": {"importance": (0.0206, 0.01761), "mse": (0.01861, 0.0187), "minmax": (0.01938, 0.01939)},
    "f16": {"importance": (0, 0)}, "bf16": {"importance": (0, 0)},
}
TRAINED_GGUF = {"q4_1": {"importance": (0.08895, 0.1009)}, "q8_0": {"importance": (0.006787, 0.008943)}}
# Of a random model, of tinystories.
GAIN = {"llama": 0.03, "qwen2_moe": 0.03, "tinystories": 0.009}


def bounds_of(model, scheme, rule):
    if model == "tinystories":
        return TRAINED[scheme][rule]
    return (OF_OPT if model == "opt" and scheme in OF_OPT else BOUNDS)[scheme][rule]


@pytest.fixture(name="source", scope="module")
def source_fixture(linchpin, shared):
    return sources(linchpin, shared)


@pytest.mark.parametrize("model, scheme, rule", packed_cases())
def test_every_weight_is_as_near_to_the_source_as_its_scheme_allows(model, scheme, rule, source, compressed):
    directory, given = source(model, rule)
    out = compressed(directory, *options_of(scheme, rule))
    check_packed(given, stored(out), PACKED[scheme], bounds_of(model, scheme, rule))


@pytest.mark.parametrize("model", GAIN)
@pytest.mark.parametrize("scheme", ["w4a16 128", "asymmetric 128", "w8a16 128", "w8a8", "fp8"])
def test_importance_makes_errors_small_where_it_is_large(model, scheme, source, compressed):
    """All tensors together, against the search that weighs all channels alike."""
    directory, given = source(model)
    out = compressed(directory, *options_of(scheme, "importance"))
    assert gain_of_importance(given, stored(out), PACKED[scheme]) >= GAIN[model]


@pytest.mark.parametrize("model, scheme, rule", gguf_cases())
def test_every_block_of_a_gguf_file_is_as_near_to_the_source(model, scheme, rule, source, compressed):
    directory, given = source(model)
    out = compressed(directory, *options_of(scheme, rule), "--format", "gguf")
    bounds = (TRAINED_GGUF if model == "stories" else GGUF_BOUNDS)[scheme][rule]
    check_blocks(slots_of(given, scheme), blocks_of(out / "model.gguf"), bounds)


@pytest.mark.parametrize("scheme", ["q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"])
def test_importance_makes_errors_of_blocks_small_where_it_is_large(scheme, source, compressed):
    directory, given = source("llama")
    weighed = {}
    for rule in ("importance", "mse"):
        out = compressed(directory, *options_of(scheme, rule), "--format", "gguf")
        weighed[rule] = errors_of_blocks(slots_of(given, scheme), blocks_of(out / "model.gguf")).weighed
    assert weighed["importance"] <= 0.96 * weighed["mse"]


PAPER = {"runs": ([], {}), "short runs": (["--block", "1000", "--bits", "3"], {"run": 1000, "bits": 3}),
         "tiles": (["--block", "48x48", "--bits", "5"], {"tile": 48, "bits": 5}),
         "clipped": (["--block", "512", "--z", "2.5"], {"run": 512, "z": 2.5})}


@pytest.mark.parametrize("model", ["llama", "mixtral"])
@pytest.mark.parametrize("name", PAPER)
def test_blocks_of_the_paper_are_those_of_a_second_program(model, name, source, compressed):
    directory, given = source(model)
    options, settings = PAPER[name]
    output = stored(compressed(directory, "--format", "dense", "--scheme", "blocks", *options))
    assert output.keys() == given.tensors.keys()
    weights = given.weights()
    for each, tensor in given.tensors.items():
        if each not in weights:
            assert output[each] == tensor, each
            continue
        expected = narrowed(clipped_blocks(tensor.floats(), **settings), tensor.kind)
        assert numpy.array_equal(output[each].floats(), expected), each
