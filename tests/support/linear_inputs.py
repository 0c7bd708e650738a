"""What goes into the linear layers of a model, in transformers and in our own forward pass.

Ours is run on the inputs that transformers had (tests/support/run_on_inputs.cc): each layer then rounds the very
numbers that the consumer rounds, and a code that falls on the other side of a tie moves no code after it.  What
the pass had come to by itself, of layers that were given theirs, is compared too: that holds whatever lies between
one linear layer and the next, with the weights and inputs as they are seen.
"""

import dataclasses
import json
import subprocess

import numpy
import torch

from support.build import tool


@dataclasses.dataclass
class OurRun:
    """By the name of a weight, its input [tokens, channels]."""
    own: dict   # as our pass had come to it
    seen: dict  # as the layer saw what it was given
    loss: float
    kl: float  # from the model without rounding


def run_on_inputs(model, ids, inputs, directory, lens="consumer", *settings):
    """`inputs`: {weight: what goes into it}; weights that are not among them have our own.

    `directory` is made and is of no use afterwards; `settings` are those of the tool."""
    directory.mkdir(parents=True)
    (directory / "ids.json").write_text(json.dumps(ids))
    for name, values in inputs.items():
        values.numpy().astype(numpy.float32).tofile(directory / name)
    command = [tool("run_on_inputs"), model, directory / "ids.json", directory, lens, *settings]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)

    def read(first, kind):
        values = torch.from_numpy(numpy.fromfile(directory / f"{first}.{kind}", numpy.float32))
        return values.view(inputs[first].shape if first in inputs else (-1,))

    run = OurRun({}, {}, document["loss"], document["kl"])
    for weights in document["inputs"]:
        own, seen = read(weights[0], "own"), read(weights[0], "seen")
        run.own |= dict.fromkeys(weights, own)
        run.seen |= dict.fromkeys(weights, seen)
    return run


def farthest(ours, theirs):
    """The largest difference, as a part of the largest magnitude of the token that it is in."""
    largest = theirs.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return ((ours - theirs).abs() / largest).max().item()


def off(ours, theirs):
    """The difference by root mean square, as a part of what there is."""
    return ((ours - theirs).square().mean() / theirs.square().mean()).sqrt().item()


def off_ties(ours, theirs, quotients, tie=2**-18):
    """(codes that differ though no tie is near, codes that differ at all), counted.

    `quotients` is what was rounded: a tie lies between two codes."""
    differ = (ours - theirs).abs() > 1e-3
    middle = (ours + theirs) / 2
    far = differ & ((quotients - middle).abs() > tie)
    return far.sum().item(), differ.sum().item()
