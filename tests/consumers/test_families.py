"""Every family and every variant of it, against transformers: small models with random weights, written by
transformers itself, must give the same loss and the same residual stream.

The shared oracles hold one model per family; here are the switches that they leave alone: rotary scalings,
windows, falcon's layouts, ALiBi, norms of queries and keys, layers without experts, models inside multimodal
ones, checkpoints saved without their head."""

import json
import os

os.environ["TQDM_DISABLE"] = "1"  # before the libraries below read it

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

SHAPE = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4,
         "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
         "max_position_embeddings": 64}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 16}
MOE = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GEMMA = {**GROUPED, "query_pre_attn_scalar": 24, "sliding_window": 5}
TOKENS = 24


def rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


LONG = {"short_factor": [1.0 + 0.1 * i for i in range(8)],
        "long_factor": [2.0 + 0.5 * i for i in range(8)]}

# name: (model_type, config)
VARIANTS = {
    "llama": ("llama", GROUPED),
    "llama biased": ("llama", {**GROUPED, "attention_bias": True, "mlp_bias": True}),
    "llama tied": ("llama", {**GROUPED, "tie_word_embeddings": True}),
    "llama linear": ("llama", {**GROUPED, **rope("linear", factor=4.0)}),
    "llama dynamic within": ("llama", {**GROUPED, **rope("dynamic", factor=4.0)}),
    "llama dynamic beyond": ("llama", {**GROUPED, "max_position_embeddings": 16,
                                       **rope("dynamic", factor=4.0)}),
    "llama llama3": ("llama", {**GROUPED, **rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)}),
    "llama yarn": ("llama", {**GROUPED, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16)}),
    "llama yarn tuned": ("llama", {**GROUPED, **rope(
        "yarn", factor=8.0, original_max_position_embeddings=16, beta_fast=16.0, beta_slow=2.0,
        mscale=0.7, mscale_all_dim=1.2)}),
    "llama yarn untruncated": ("llama", {**GROUPED, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, truncate=False,
        attention_factor=1.1)}),
    "llama longrope short": ("llama", {**GROUPED, **rope(
        "longrope", original_max_position_embeddings=32, **LONG)}),
    "llama longrope long": ("llama", {**GROUPED, **rope(
        "longrope", original_max_position_embeddings=16, factor=4.0, **LONG)}),
    "mistral": ("mistral", {**GROUPED, "sliding_window": 7}),
    "mistral unwindowed": ("mistral", {**GROUPED, "sliding_window": None}),
    "qwen2": ("qwen2", {**SHAPE, "num_key_value_heads": 2}),
    "qwen2 windowed": ("qwen2", {**SHAPE, "num_key_value_heads": 2, "use_sliding_window": True,
                                 "sliding_window": 5, "max_window_layers": 2}),
    "qwen3": ("qwen3", {**GROUPED, "attention_bias": True}),
    "qwen3 windowed": ("qwen3", {**GROUPED, "use_sliding_window": True, "sliding_window": 5,
                                 "max_window_layers": 1}),
    "olmo": ("olmo", SHAPE),
    "olmo clipped": ("olmo", {**SHAPE, "num_key_value_heads": 2, "clip_qkv": 0.5}),
    "olmo2": ("olmo2", {**SHAPE, "num_key_value_heads": 2}),
    "phi": ("phi", {**SHAPE, "num_key_value_heads": 2}),
    "phi normed": ("phi", {**SHAPE, "qk_layernorm": True}),
    "phi3": ("phi3", {**SHAPE, "num_key_value_heads": 2, "sliding_window": 5}),
    "phi3 longrope": ("phi3", {
        **SHAPE, "original_max_position_embeddings": 16,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0,
                            "short_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
                            "long_factor": [2.0, 2.5, 3.0, 3.5, 4.0, 5.0]}}),
    "gemma": ("gemma", GROUPED),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}),
    "gemma3": ("gemma3_text", {**GEMMA, "sliding_window_pattern": 2, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
    "gpt2": ("gpt2", {"vocab_size": 96, "n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 64,
                      "bos_token_id": 1, "eos_token_id": 2}),
    "gpt2 unscaled": ("gpt2", {"vocab_size": 96, "n_embd": 48, "n_layer": 4, "n_head": 4,
                               "n_positions": 64, "n_inner": 80, "scale_attn_weights": False,
                               "bos_token_id": 1, "eos_token_id": 2}),
    "gpt_neox": ("gpt_neox", {**SHAPE, "rotary_pct": 0.5}),
    "gpt_neox sequential": ("gpt_neox", {**SHAPE, "use_parallel_residual": False,
                                         "attention_bias": False, "rotary_pct": 1.0}),
    "opt": ("opt", {**SHAPE, "ffn_dim": 80, "word_embed_proj_dim": 48}),
    "opt unbiased": ("opt", {**SHAPE, "ffn_dim": 80, "word_embed_proj_dim": 48,
                             "enable_bias": False}),
    "falcon 7b": ("falcon", {**SHAPE, "ffn_hidden_size": 80}),
    "falcon 40b": ("falcon", {**SHAPE, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon 11b": ("falcon", {**SHAPE, "new_decoder_architecture": True, "num_kv_heads": 2,
                              "num_ln_in_parallel_attn": 1}),
    "falcon rw": ("falcon", {**SHAPE, "alibi": True, "multi_query": False, "parallel_attn": False,
                             "bias": True}),
    "falcon alibi of six heads": ("falcon", {**SHAPE, "num_attention_heads": 6, "alibi": True}),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 4, "sliding_window": 5}),
    "qwen2_moe": ("qwen2_moe", {**MOE, "shared_expert_intermediate_size": 40}),
    "qwen2_moe renormalized": ("qwen2_moe", {
        **MOE, "shared_expert_intermediate_size": 40, "norm_topk_prob": True,
        "mlp_only_layers": [1], "decoder_sparse_step": 1, "use_sliding_window": True,
        "sliding_window": 5, "max_window_layers": 3}),
    "qwen3_moe": ("qwen3_moe", {**MOE, "num_local_experts": 4, "norm_topk_prob": True}),
    "qwen3_moe sparse": ("qwen3_moe", {**MOE, "num_local_experts": 4, "decoder_sparse_step": 2}),
}


def randomize(model, seed):
    """Weights large enough that every part of the model shows in its loss."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))


def windows(seed, vocab=96):
    torch.manual_seed(seed)
    return [[1] + torch.randint(3, vocab, (TOKENS - 1,)).tolist() for _ in range(2)]


def expected(model, ids):
    """Mean loss over all predicted tokens, and the residual stream after each layer but the last."""
    total, count, peaks = 0.0, 0, None
    with torch.no_grad():
        for window in ids:
            out = model(torch.tensor([window]), output_hidden_states=True, use_cache=False)
            logits = out.logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(
                logits, torch.tensor(window[1:]), reduction="sum").item()
            count += len(window) - 1
            if peaks is None:
                peaks = [h[0].abs().max().item() for h in out.hidden_states[1:-1]]
    return total / count, peaks


def check(linchpin, directory, model, seed):
    ids = windows(seed)
    loss, peaks = expected(model.eval(), ids)
    tokens = directory.parent / "tokens.json"
    tokens.write_text(json.dumps(ids))
    measured = linchpin("evaluate", directory, "--tokens", tokens, "--json").json
    assert measured["tokens"] == 2 * (TOKENS - 1)
    assert measured["loss"] == pytest.approx(loss, rel=2e-5, abs=2e-5)
    layers = linchpin("detect", directory, "--tokens", ",".join(map(str, ids[0])),
                      "--json").json["layers"]
    assert [abs(layer["residual"]["value"]) for layer in layers[:-1]] == pytest.approx(
        peaks, rel=1e-4)


def make(model_type, config, seed):
    settings = transformers.AutoConfig.for_model(model_type, **config)
    # falcon's eager attention adds ALiBi twice, in the mask and to the scores.
    attention = "sdpa" if config.get("alibi") else "eager"
    model = transformers.AutoModelForCausalLM.from_config(
        settings, dtype=torch.float32, attn_implementation=attention)
    randomize(model, seed)
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_a_family_computes_what_transformers_does(linchpin, tmp_path, name):
    model = make(*VARIANTS[name], seed=len(name))
    model.save_pretrained(tmp_path / "model")
    check(linchpin, tmp_path / "model", model, seed=7)


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_a_model_saved_without_its_head(linchpin, tmp_path, name):
    model_type, config = VARIANTS[name]
    model = make(model_type, {**config, "tie_word_embeddings": True}, seed=3)
    model.base_model.save_pretrained(tmp_path / "model")
    check(linchpin, tmp_path / "model", model, seed=8)


FP8 = torch.float8_e4m3fn
BLOCK = 128


def scales_of(weight, kind):
    """Scales that bring the largest weight to the largest float8, one per tensor, row or block."""
    if kind == "tensor":
        return weight.abs().max() / 448
    if kind == "channel":
        return weight.abs().amax(1, keepdim=True) / 448
    rows, columns = (-(-n // BLOCK) for n in weight.shape)
    return torch.stack([torch.stack([
        weight[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK].abs().max()
        for j in range(columns)]) for i in range(rows)]) / 448


def spread(scales, shape):
    """The scale of every element."""
    if scales.dim() == 2 and scales.shape[1] > 1 or scales.numel() > 1 and scales.shape[0] < shape[0]:
        scales = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        return scales[:shape[0], :shape[1]]
    return scales.expand(shape)


@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
def test_weights_in_float8_are_read_with_their_scales(linchpin, tmp_path, kind):
    config = {**GROUPED, "hidden_size": 160, "intermediate_size": 200}
    model = make("llama", config, seed=6)
    directory, file = tmp_path / "model", tmp_path / "model/model.safetensors"
    model.save_pretrained(directory)
    tensors, state = load_file(file), model.state_dict()
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        scales = scales_of(tensors[name], kind)
        each = spread(scales, tensors[name].shape)
        tensors[name] = (tensors[name] / each).to(FP8)
        suffix = "_scale_inv" if kind == "block" else "_scale"
        tensors[name + suffix] = scales.clone()
        state[name] = tensors[name].float() * each
    save_file(tensors, file, {"format": "pt"})
    settings = json.loads((directory / "config.json").read_text())
    settings["quantization_config"] = (
        {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]} if kind == "block"
        else {"quant_method": "compressed-tensors", "format": "float-quantized"})
    (directory / "config.json").write_text(json.dumps(settings))
    model.load_state_dict(state)
    check(linchpin, directory, model, seed=10)
    out = tmp_path / "out"
    linchpin("compress", directory, out, "--format", "dense", "--scheme", "w8a16")
    written = load_file(out / "model.safetensors")
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        assert (written[name].float() - state[name]).norm() < 0.02 * state[name].norm(), name
        assert not any(n.startswith(name + "_scale") for n in written)


VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
          "num_attention_heads": 2, "image_size": 28, "patch_size": 14}


def multimodal(kind):
    if kind == "gemma3":
        text = {**GEMMA, "model_type": "gemma3_text", "sliding_window_pattern": 2}
        settings = transformers.Gemma3Config(text_config=text, vision_config=VISION,
                                             mm_tokens_per_image=4)
        return transformers.Gemma3ForConditionalGeneration(settings)
    text = {**GROUPED, "model_type": "mistral"}
    settings = transformers.Mistral3Config(
        text_config=text, vision_config={**VISION, "model_type": "pixtral"})
    return transformers.Mistral3ForConditionalGeneration(settings)


@pytest.mark.parametrize("kind", ["gemma3", "mistral3"])
@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_text_model_of_a_multimodal_one(linchpin, tmp_path, kind, prefix):
    model = multimodal(kind).float()
    randomize(model, 5)
    model.set_attn_implementation("eager")
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    tensors, renamed = load_file(file), {}
    for name, tensor in tensors.items():
        inner = name.replace("model.language_model.", "").replace("language_model.model.", "")
        if inner == name:
            head = name.endswith("lm_head.weight")
            old = prefix == "language_model.model." and head
            renamed["language_model.lm_head.weight" if old else
                    "lm_head.weight" if head else name] = tensor
        else:
            renamed[prefix + inner] = tensor
    save_file(renamed, file, {"format": "pt"})
    check(linchpin, tmp_path / "model", model, seed=9)
