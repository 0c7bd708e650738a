#!/usr/bin/env python3
"""What one would write without linchpin: a forward pass in bf16 with hooks on every down_proj.

    hooks.py MODEL      prints the largest input and output per layer; finds nothing, proves nothing
"""

import sys

import torch
from transformers import AutoModelForCausalLM

TOKENS = 16

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
peaks = []


def record(_module, inputs, output):
    peaks.append((inputs[0].abs().max().item(), output.abs().max().item()))


for layer in model.model.layers:
    layer.mlp.down_proj.register_forward_hook(record)
with torch.no_grad():
    model(torch.tensor([[1, *range(100, 99 + TOKENS)]]))
for number, (largest_in, largest_out) in enumerate(peaks):
    print(number, largest_in, largest_out)
