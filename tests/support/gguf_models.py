"""Writes Hugging Face checkpoints as GGUF with gguf-py, the way llama.cpp's converter does.

    write_gguf(directory_of_a_checkpoint, "model.gguf", "Q8_0")

Tensor names are gguf-py's own.  What the converter changes on the way (rows of llama's query and
key paired for the rotation, one added to Gemma's norms, experts joined, a row made a vector) is
done here.
"""

import json
import math
import re

import gguf
import numpy
import torch
from safetensors import safe_open

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2",
                 "qwen3": "qwen3", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
                 "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3",
                 "olmo2": "olmo2"}


def read_tensors(directory):
    """{name: float32 array} of all shards."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name).to(torch.float32).numpy()
    return tensors


def write_gguf(directory, path, quantization="F32", extra=None):
    """Writes the checkpoint; matrices whose rows allow it in `quantization`."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, architecture)
    add_settings(writer, architecture, config)
    if extra is not None:
        extra(writer)
    kind = gguf.GGMLQuantizationType[quantization]
    tensors = converted(config, architecture, read_tensors(directory)) | factors(config)
    for name, array in tensors.items():
        add_tensor(writer, name, array, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tensor(writer, name, array, kind):
    block = gguf.GGML_QUANT_SIZES[kind][0]
    plain = array.ndim < 2 or array.shape[-1] % block or name.endswith("_norm.weight")
    if plain or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, numpy.ascontiguousarray(array, numpy.float32))
    else:
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def add_settings(writer, architecture, config):
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * (config.get("partial_rotary_factor") or 1)))
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    for key, add in {
            "attn_logit_softcapping": writer.add_attn_logit_softcapping,
            "final_logit_softcapping": writer.add_final_logit_softcapping,
            "num_experts": writer.add_expert_count,
            "num_local_experts": writer.add_expert_count,
            "num_experts_per_tok": writer.add_expert_used_count,
            "moe_intermediate_size": writer.add_expert_feed_forward_length,
            "shared_expert_intermediate_size": writer.add_expert_shared_feed_forward_length,
    }.items():
        if config.get(key):
            add(config[key])


def factors(config):
    """Llama 3's rule as the tensor that llama.cpp stores: what divides each frequency."""
    rule = config.get("rope_scaling") or {}
    if rule.get("rope_type") == "longrope":
        return {f"rope_factors_{each}.weight": numpy.array(rule[f"{each}_factor"], numpy.float32)
                for each in ("long", "short")}
    if rule.get("rope_type") != "llama3":
        return {}
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    frequencies = 1 / config["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    low, high = rule["low_freq_factor"], rule["high_freq_factor"]
    original, factor = rule["original_max_position_embeddings"], rule["factor"]
    values = []
    for length in (2 * math.pi / frequencies).tolist():
        smooth = (original / length - low) / (high - low)
        values.append(1 if length < original / high else factor if length > original / low
                      else 1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": numpy.array(values, numpy.float32)}


def converted(config, architecture, tensors):
    """{gguf's name: array}."""
    which = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(which, config["num_hidden_layers"])
    result, experts = {}, {}
    for name, array in tensors.items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        expert = re.fullmatch(r"(model\.layers\.\d+\..*\.experts)\.(\d+)\.(\w+)\.weight", name)
        if expert:
            place = experts.setdefault(f"{expert[1]}.{expert[3]}.weight", {})
            place[int(expert[2])] = array
            continue
        array = changed(config, architecture, name, array)
        result[names.get_name(name, try_suffixes=(".weight", ".bias"))] = array
    for name, parts in experts.items():
        joined = numpy.stack([parts[i] for i in range(len(parts))])
        result[names.get_name(name, try_suffixes=(".weight",))] = joined
    assert None not in result, sorted(tensors)
    return result


def changed(config, architecture, name, array):
    if architecture == "llama" and "q_proj" in name:
        return pair_rows(array, config["num_attention_heads"])
    if architecture == "llama" and "k_proj" in name:
        return pair_rows(array, config["num_key_value_heads"])
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return array + numpy.float32(1)
    return array.squeeze() if name.endswith("shared_expert_gate.weight") else array


def pair_rows(array, heads):
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)
