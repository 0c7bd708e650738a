"""What `linchpin detect` can be asked for, and what it says to what it cannot do."""

import json
import shutil

import pytest

PLANTED = ("model.layers.1.mlp.down_proj.weight", 1, 37)


@pytest.fixture(name="model")
def model_fixture(demo_model, tmp_path):
    """A copy of the demonstration model that a test may change."""
    return shutil.copytree(demo_model, tmp_path / "model")


def change_config(model, **values):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))


def position(weight):
    return weight["tensor"], weight["row"], weight["column"]


def test_several_prompts_say_whether_they_agree(linchpin, demo_model):
    detection = linchpin("detect", demo_model, "--prompts", 4, "--json").json
    assert detection["stability"]["agreement"] == 1
    assert len(detection["stability"]["prompts"]) == 4
    assert len({tuple(p["token_ids"]) for p in detection["stability"]["prompts"]}) == 4
    assert [position(w) for w in detection["super_weights"]] == [PLANTED]
    assert detection["super_weights"][0]["agreement"] == 1
    assert "1.00 over 4 prompts" in linchpin("detect", demo_model, "--prompts", 4).out


def test_one_prompt_says_nothing_of_agreement(linchpin, demo_model):
    detection = linchpin("detect", demo_model, "--json").json
    assert detection["stability"] is None
    assert detection["super_weights"][0]["agreement"] is None
    assert detection["super_weights"][0]["weight_only_rank"] == 1


def test_weights_alone_need_no_known_family(linchpin, model):
    change_config(model, model_type="unheard_of", architectures=["UnheardOfForCausalLM"])
    assert "FAMILY_UNSUPPORTED" in linchpin.run("detect", model).error
    detection = linchpin("detect", model, "--weights-only", "--json").json
    suspects = detection["weight_only"]["suspects"]
    assert position(suspects[0]) == PLANTED
    assert [s["over_median"] for s in suspects] == sorted(
        (s["over_median"] for s in suspects), reverse=True)
    assert detection["verdict"] == "unproven"
    assert detection["super_weights"] == []
    assert any("weights alone" in note for note in detection["notes"])
    text = linchpin("detect", model, "--weights-only").out
    assert "suspect" in text and "super weights   none" not in text


def test_thresholds_are_printed_and_set(linchpin, demo_model):
    printed = linchpin("detect", demo_model, "--json").json["thresholds"]
    assert printed["peak_over_median"] == 50
    strict = linchpin("detect", demo_model, "--json", "--threshold", "peak_over_median=1e9",
                      "--threshold", "made_peak_over_median=1e9").json
    assert strict["thresholds"] == printed | {"peak_over_median": 1e9, "made_peak_over_median": 1e9}
    assert strict["super_weights"] == []


@pytest.mark.parametrize("options, reason, named", [
    (["--threshold", "min_sharing=1"], "OPTION_INVALID", "min_share"),
    (["--threshold", "min_share=2"], "OPTION_INVALID", "from 0 to 1"),
    (["--threshold", "max_rounds=1.5"], "OPTION_INVALID", "whole number"),
    (["--threshold", "min_share"], "OPTION_INVALID", "min_share=0.4"),
    (["--tokens", "1,512"], "TOKENS_INVALID", "512 is outside the vocabulary of 512"),
    (["--tokens", ",".join(["1"] * 4097)], "TOKENS_INVALID", "4096"),
    (["--text", "hello"], "SOURCE_NOT_FOUND", "tokenizer.json"),
])
def test_what_cannot_be_run_is_refused(linchpin, demo_model, options, reason, named):
    finished = linchpin.run("detect", demo_model, *options)
    assert finished.code != 0 and finished.out == ""
    assert f"[{reason}]" in finished.error
    assert named in finished.error


def test_a_window_longer_than_the_positions_is_refused(linchpin, model, tmp_path):
    change_config(model, max_position_embeddings=64)
    (tmp_path / "ids.json").write_text(json.dumps([[1] * 65]))
    finished = linchpin.run("detect", model, "--proof", "joint", "--proof-tokens",
                            tmp_path / "ids.json")
    assert "[TOKENS_INVALID]" in finished.error and "64 positions" in finished.error
    # Our own windows fit.
    proof = linchpin("detect", model, "--proof", "joint", "--json").json["proof"]
    assert proof["window"] == 64


@pytest.mark.parametrize("change, reason, named", [
    ({"num_hidden_layers": 40}, "TENSOR_MISSING", "layers."),
    ({"intermediate_size": 96}, "TENSOR_SHAPE_INVALID", "mlp."),
    ({"vocab_size": 1024}, "TENSOR_SHAPE_INVALID", "embed_tokens"),
    ({"num_attention_heads": 3}, "CONFIG_INVALID", "num_key_value_heads 2 does not divide the 3 heads"),
    ({"bos_token_id": 512}, "CONFIG_INVALID", "bos_token_id"),
    ({"hidden_size": "many"}, "CONFIG_INVALID", "hidden_size"),
])
def test_a_config_that_contradicts_the_tensors_is_refused(linchpin, model, change, reason, named):
    change_config(model, **change)
    finished = linchpin.run("detect", model)
    assert finished.code == 42 and finished.out == ""
    assert finished.error.endswith(f"[{reason}]") and named in finished.error


def test_a_tokenizer_that_cannot_be_read_is_named_and_never_guessed(linchpin, model):
    (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": []}}))
    finished = linchpin.run("detect", model, "--text", "hello")
    assert finished.code == 42 and finished.out == ""
    assert finished.error.endswith("[FEATURE_UNSUPPORTED]")
    assert finished.error.startswith('error: tokenizer.json: a model of type "Unigram" is not built')
    detection = linchpin("detect", model, "--proof", "joint", "--json").json
    assert detection["proof"]["tokens_from"] == "built_in_ids"
    assert detection["proof"]["judged_by"] == "kl"
    assert "tokenizer.json" in detection["proof"]["no_text_because"]
    assert detection["verdict"] == "single"
