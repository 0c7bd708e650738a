"""The adapter that puts super weights back, loaded by the library that it is written for: peft."""

import json

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

DOWN_PROJ = "model.layers.11.mlp.down_proj"


def test_peft_restores_the_super_weights(linchpin, smollm2, tmp_path):
    out = tmp_path / "out"
    linchpin("compress", smollm2("bf16"), out, "--preserve", "lora", "--scale", "signed")
    kept = json.loads((out / "linchpin.json").read_text())["super_weights"]
    assert len(kept) == 2
    adapter, = {path.parent for path in out.rglob("adapter_config.json")}
    base = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokens = torch.tensor([[1, 504, 3575, 282, 4649, 314, 7042, 30]])
    with torch.no_grad():
        without = base(tokens, labels=tokens).loss.item()
        model = PeftModel.from_pretrained(base, adapter).eval()
        restored = model(tokens, labels=tokens).loss.item()
    assert without > restored + 1
    layer = dict(model.named_modules())[f"base_model.model.{DOWN_PROJ}"]
    added = layer.get_delta_weight("default")
    with safe_open(smollm2("bf16") / "model.safetensors", "pt") as file:
        source = file.get_tensor(DOWN_PROJ + ".weight").float()
    assert torch.count_nonzero(added) == len(kept)
    for weight in kept:
        at = weight["row"], weight["column"]
        # Symmetric codes have a zero in its place.
        assert added[at] == source[at] == weight["value"]
