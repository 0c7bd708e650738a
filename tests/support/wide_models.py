"""Small random models of all kinds of families whose rows are long enough for every group and every block.

    wide_model("llama")    the directory of the checkpoint, made once under build/models

Rows have 256 or 384 elements, those of some experts 128: groups of 32, 64 and 128 divide them all, super
blocks of 256 most.  What a norm gives differs by channel, so that importance has something to say.  All have a
tokenizer with a token for every byte, as a GGUF file needs one.
"""

import hashlib
import pathlib
import shutil

import torch
import transformers

from support.build import ROOT
from support.byte_tokenizer import ROWS, byte_tokenizer
from support.outputs import locked

MODELS = ROOT / "build/models"
SHAPE = {"vocab_size": ROWS, "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2,
         "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
         "max_position_embeddings": 128}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
WIDE = {  # name: (model_type, config, dtype)
    "llama": ("llama", GROUPED, torch.float32),
    "gpt_neox": ("gpt_neox", SHAPE, torch.bfloat16),
    "phi3": ("phi3", {**GROUPED, "sliding_window": None}, torch.float32),
    "opt": ("opt", {**SHAPE, "ffn_dim": 384, "word_embed_proj_dim": 256}, torch.float16),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2,
                            "sliding_window": None}, torch.float32),
    "qwen2_moe": ("qwen2_moe", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2,
                                "moe_intermediate_size": 128,
                                "shared_expert_intermediate_size": 256}, torch.float32),
}
EXPERTS = ("mixtral", "qwen2_moe")
IDS = [1, *(3 + 7 * i % (ROWS - 3) for i in range(1, 32))]


def randomize(model, seed):
    """Products of the size of what goes in, and gains between a third and three."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            elif name.endswith("weight"):
                parameter.mul_((0.5 * torch.randn_like(parameter)).clamp(-1, 1).exp())
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))


def make(name, directory):
    model_type, config, dtype = WIDE[name]
    settings = transformers.AutoConfig.for_model(model_type, **config)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    randomize(model, seed=len(name))
    model.to(dtype).save_pretrained(directory)
    byte_tokenizer(directory, ROWS)


def wide_model(name):
    """Not to be written to."""
    version = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:12]
    MODELS.mkdir(parents=True, exist_ok=True)
    target = MODELS / f"wide-{name}-{version}"
    with locked(MODELS / f"wide-{name}.lock"):
        if not target.exists():
            made = MODELS / f"wide-{name}.made"
            shutil.rmtree(made, ignore_errors=True)
            make(name, made)
            made.rename(target)
    return target
