"""What vLLM makes of models: run by vLLM's own Python (tests/vllm), it reads a list of jobs and writes what it sees.

    build/vllm-venv/bin/python tests/support/vllm_readings.py JOBS.json OUT

A job: {"name", "model", "dtype", "tokens": ids or none, "as_loaded": whether weights stay as they are loaded}.
OUT gets NAME.json with the log-probabilities of the tokens, or the error, and NAME.safetensors with the weights as vLLM
holds them and what went into its linear layers and came out.  All models run in one process, one after the other: vLLM
takes longer to import than any of them to load.
"""

import contextlib
import gc
import importlib
import importlib.machinery
import json
import os
import pathlib
import sys
import traceback
import types
import unittest.mock

os.environ.update({
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the weights are then in this process
    "VLLM_CPU_INT4_W4A8": "0",  # else w4a16 rounds activations where there is AMX
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",  # it would compile the sampler for a minute
})


def stand_in_for_torchvision():
    """What models that see are written in terms of; its wheel asks for CUDA, and nothing is shown to them here."""
    for name in ("", ".io", ".ops", ".transforms", ".transforms.functional", ".transforms.v2",
                 ".transforms.v2.functional"):
        module = types.ModuleType("torchvision" + name)
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        module.__path__ = []
        module.__getattr__ = lambda _name: unittest.mock.MagicMock()
        sys.modules[module.__name__] = module


stand_in_for_torchvision()

import torch
from safetensors.torch import save_file
from vllm import LLM, ModelRegistry, SamplingParams
from vllm.inputs import TokensPrompt

# What runs on every processor: the kernels for AMX take no float32.
torch.cpu._is_amx_tile_supported = lambda: False


def register(directory):
    """Shows vLLM the class of a model, for which it would start a Python of its own."""
    architecture = json.loads((directory / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    known = ModelRegistry.models[architecture]
    if hasattr(known, "module_name"):
        module = importlib.import_module(known.module_name)
        ModelRegistry.register_model(architecture, getattr(module, known.class_name))


def load(directory, dtype):
    register(directory)
    return LLM(str(directory), dtype=dtype, skip_tokenizer_init=True, max_model_len=256, enforce_eager=True,
               max_num_seqs=2, enable_prefix_caching=False, limit_mm_per_prompt={"image": 0})


@contextlib.contextmanager
def weights_stay():
    """As they are loaded: experts have kernels for AMX alone, which want another layout."""
    loader = "vllm.model_executor.model_loader.base_loader"
    with unittest.mock.patch("torch.cpu._is_amx_tile_supported", lambda: True), \
            unittest.mock.patch(f"{loader}.process_weights_after_loading", lambda *_: None):
        yield


def model_of(llm):
    return llm.llm_engine.model_executor.driver_worker.worker.model_runner.model


def log_probabilities(llm, tokens):
    """Of each token but the first, given those before it."""
    output, = llm.generate(TokensPrompt(prompt_token_ids=tokens),
                           SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False), use_tqdm=False)
    return [given[token].logprob for given, token in zip(output.prompt_logprobs[1:], tokens[1:])]


@contextlib.contextmanager
def watched(model):
    """{"NAME.input", "NAME.output"} of the model's linear layers, while it runs."""
    seen, hooks = {}, []

    def watch(name, module):
        def keep(_module, inputs, output):
            seen[name + ".input"] = inputs[0].clone()
            seen[name + ".output"] = (output[0] if isinstance(output, tuple) else output).clone()
        hooks.append(module.register_forward_hook(keep))

    for name, module in model.named_modules():
        if name.endswith("_proj") and hasattr(module, "quant_method"):
            watch(name, module)
    yield seen
    for hook in hooks:
        hook.remove()


def read(job):
    # With AMX oneDNN multiplies float8 one by one, a minute for ten tokens.
    torch.backends.mkldnn.set_flags(job["dtype"] != "float32")
    with weights_stay() if job.get("as_loaded") else contextlib.nullcontext():
        llm = load(pathlib.Path(job["model"]), job["dtype"])
    model, answer = model_of(llm), {}
    tensors = {name: tensor.data.contiguous().clone() for name, tensor in model.named_parameters()
               if ".layers." in name}
    if job.get("tokens"):
        with watched(model) as seen:
            answer["log_probabilities"] = log_probabilities(llm, job["tokens"])
        tensors |= seen
    return answer, tensors


def main(jobs, out):
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        try:
            answer, tensors = read(job)
        except Exception:  # whatever it is, the test is to see it
            answer, tensors = {"error": traceback.format_exc()}, {}
        save_file(tensors, out / f"{job['name']}.safetensors")
        (out / f"{job['name']}.json").write_text(json.dumps(answer), encoding="utf-8")
        gc.collect()


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
