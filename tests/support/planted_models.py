"""Makes small random models with super weights written into them, through transformers alone.

A neuron of one layer's MLP is made to fire at one token: its gate and up rows are that token's own MLP input,
scaled.  What its down_proj column does with that spike is the kind of the model:

    one, siblings, columns, six, stack, expert   weights that must be found, nothing else
    decoy, later, restored                       the same, beside what must not be found
    none, large, taken_back, echo, orphan, norm_gain, bias, attention, many, wide   nothing to find

A neuron of an ordinary model answers other tokens, too, a little: what is planted is exact for the tokens in
expected.json, and for any prompt that begins with BOS unless the kind is in GIVEN_TOKENS_ONLY.

    python planted_models.py OUT KIND FAMILY SEED    writes one and prints what is planted
"""

import contextlib
import json
import pathlib
import random
import sys

import torch
import transformers

SHAPE = {"vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8,
         "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
         "max_position_embeddings": 128}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 16}
MOE = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
GEMMA = {**GROUPED, "query_pre_attn_scalar": 16, "sliding_window": 8}
FAMILIES = {
    "llama": GROUPED, "llama_bias": {**GROUPED, "mlp_bias": True, "attention_bias": True},
    "mistral": {**GROUPED, "sliding_window": 8}, "qwen2": GROUPED, "qwen3": GROUPED,
    "olmo": GROUPED, "olmo2": GROUPED, "phi3": GROUPED, "phi": SHAPE, "gemma": GROUPED,
    "gemma2": GEMMA, "gemma3_text": {**GEMMA, "sliding_window_pattern": 2},
    "gpt2": SHAPE, "gpt_neox": SHAPE, "opt": {**SHAPE, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "falcon": {**SHAPE, "ffn_hidden_size": 96},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 64},
    "qwen3_moe": {**MOE, "norm_topk_prob": True},
}
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")
POST_NORM = ("olmo2", "gemma2", "gemma3_text")
PLAIN = ("gpt2", "gpt_neox", "opt", "falcon", "phi")  # no gate
BIASED = ("llama_bias", "gpt2", "gpt_neox", "opt", "phi")
DENSE = tuple(f for f in FAMILIES if f not in EXPERTS)
# kind: the families that it can be written into
KINDS = {
    **{kind: DENSE for kind in ("one", "siblings", "columns", "decoy", "none", "large", "later",
                                "restored", "echo")},
    # Needs a spike so high that a norm behind the MLP would hide all else.
    "orphan": tuple(f for f in DENSE if f not in POST_NORM),
    # A norm behind the MLP makes several rows share one height, and olmo2 has none in front of it.
    "six": tuple(f for f in DENSE if f not in POST_NORM),
    "taken_back": tuple(f for f in DENSE if f != "olmo2"),
    "stack": tuple(f for f in DENSE if f != "olmo2"),
    "expert": EXPERTS,
    "norm_gain": POST_NORM,
    "bias": BIASED,
    "attention": tuple(f for f in DENSE if f not in POST_NORM),
    "many": tuple(f for f in DENSE if f not in POST_NORM),
    "wide": tuple(f for f in DENSE if f not in POST_NORM),
}
GIVEN_TOKENS_ONLY = ("later", "taken_back")
# kind: the carrier that its super activation has
CARRIERS = {"norm_gain": "norm_gain", "bias": "bias", "attention": "attention", "many": "many",
            "wide": "many"}
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
         "post_feedforward_layernorm", "norm", "q_norm", "k_norm", "ln_1", "ln_2", "ln_f",
         "self_attn_layer_norm", "final_layer_norm", "final_layernorm", "final_layer_norm",
         "ln_attn", "ln_mlp")


def combinations():
    return [(kind, family) for kind, families in KINDS.items() for family in families]


def first_of(module, *paths):
    """The first of the modules within `module` that there is."""
    for path in paths:
        with contextlib.suppress(AttributeError):
            return module.get_submodule(path)
    raise AttributeError(f"none of {', '.join(paths)}")


class Planter:
    """One model in the making.  Layers are to be planted in ascending order: a spike depends on what is below."""

    def __init__(self, family, seed):
        self.family, self.random = family, random.Random(f"{family} {seed}")
        torch.manual_seed(self.random.getrandbits(32))
        settings = dict(FAMILIES[family])
        settings["num_hidden_layers"] = self.random.choice([8, 8, 10, 12])
        model_type = "llama" if family == "llama_bias" else family
        if family == "qwen3_moe":
            settings["head_dim"] = 32
        config = transformers.AutoConfig.for_model(model_type, **settings)
        self.model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager").eval()
        self.layer_count, self.hidden = config.num_hidden_layers, 64
        self.ids = [1] + [self.random.randrange(3, 160) for _ in range(23)]
        self.planted, self.decoys = [], []
        self.rows = self.random.sample(range(self.hidden), 12)
        with torch.no_grad():
            self._randomize()

    def _randomize(self):
        plus_one = self.family.startswith("gemma")
        for name, parameter in self.model.named_parameters():
            owner = name.split(".")[-2]
            if parameter.dim() == 1 and name.endswith("weight") and owner in NORMS:
                parameter.normal_(0.0 if plus_one else 1.0, 0.1)
            elif parameter.dim() == 1:
                parameter.normal_(0.0, 0.02)
            elif "embed" in name or name.endswith(("wte.weight", "wpe.weight")):
                parameter.normal_(0.0, 0.05 if "pos" in name or "wpe" in name else 0.5)
            else:
                fan_in = parameter.shape[-2] if self.family == "gpt2" else parameter.shape[-1]
                parameter.normal_(0.0, 0.6 / fan_in ** 0.5)
        if self.random.random() < 0.5:
            self._through_bf16()

    def _through_bf16(self):
        self.bf16 = True
        for parameter in self.model.parameters():
            parameter.copy_(parameter.bfloat16())

    bf16 = False
    rows_planted = 1  # with one column: they share what the norm behind the MLP lets through

    @property
    def layers(self):
        return first_of(self.model.base_model, "layers", "h", "decoder.layers")

    def mlp(self, layer):
        block = self.layers[layer]
        return block if self.family == "opt" else block.mlp

    def first(self, layer):
        """The module whose input is the MLP's input."""
        return first_of(self.mlp(layer), "gate_proj", "gate_up_proj", "c_fc", "dense_h_to_4h", "fc1", "gate")

    def down_module(self, layer):
        return first_of(self.mlp(layer), "down_proj", "c_proj", "dense_4h_to_h", "fc2")

    def down(self, layer):
        """down_proj as [out, in], a view that writes through."""
        weight = self.down_module(layer).weight
        return weight.t() if self.family == "gpt2" else weight

    def down_bias(self, layer):
        return self.down_module(layer).bias

    def attention_out(self, layer):
        return first_of(self.layers[layer], "self_attn.o_proj", "attn.c_proj", "attention.dense",
                        "self_attn.out_proj", "self_attention.dense", "self_attn.dense")

    def captured(self, module, input_of=True):
        """What goes into (or comes out of) a module for self.ids, [tokens, width]."""
        seen = {}

        def hook(_, arguments, output):
            value = arguments[0] if input_of else output
            seen["x"] = value.detach().reshape(-1, value.shape[-1])

        handle = module.register_forward_hook(hook)
        with torch.no_grad():
            self.model(torch.tensor([self.ids]), use_cache=False)
        handle.remove()
        return seen["x"]

    def drive(self, layer, column, level, token=0, expert=None, alone=False):
        """Makes the MLP's neuron `column` fire at `level` for one token; `alone`: for no other of the prompt."""
        inputs = self.captured(self.first(layer))
        x = inputs[token]
        if alone:
            others = torch.cat([inputs[:token], inputs[token + 1:]])
            x = x - others.t() @ torch.linalg.lstsq(others.t(), x[:, None]).solution[:, 0]
        with torch.no_grad():
            if self.family in PLAIN:
                row = x * (level / x.dot(x))
                if self.family == "gpt2":
                    self.mlp(layer).c_fc.weight[:, column] = row
                else:
                    self.first(layer).weight[column] = row
                return
            row = x * (level ** 0.5 / x.dot(x))
            if expert is not None:
                both = self.mlp(layer).experts.gate_up_proj
                width = both.shape[1] // 2
                both[expert, column] = row
                both[expert, width + column] = row
            elif self.family == "phi3":
                both = self.mlp(layer).gate_up_proj.weight
                both[column] = row
                both[both.shape[0] // 2 + column] = row
            else:
                self.mlp(layer).gate_proj.weight[column] = row
                self.mlp(layer).up_proj.weight[column] = row
            if self.bf16:
                self._through_bf16()

    def set_down(self, layer, row, column, value, expert=None):
        value = torch.tensor(value).bfloat16().item() if self.bf16 else torch.tensor(value).item()
        with torch.no_grad():
            if expert is None:
                self.down(layer)[row, column] = value
            else:
                self.mlp(layer).experts.down_proj[expert, row, column] = value

    def set_gain(self, layer, channel, gain):
        with torch.no_grad():
            self.layers[layer].post_feedforward_layernorm.weight[channel] = gain

    def plant(self, layer, row, column, value, expert=None):
        """A super weight whose column is driven already."""
        self.set_down(layer, row, column, value, expert)
        if self.family in POST_NORM:
            self.set_gain(layer, row, self.random.uniform(11, 14) * self.rows_planted ** 0.5)
        at = {"layer": layer, "row": row, "column": column}
        self.planted.append({**at, "expert": expert} if expert is not None else at)

    def mislead(self, layer, row, column, value):
        """Not a super weight."""
        self.set_down(layer, row, column, value)
        self.decoys.append({"layer": layer, "row": row, "column": column})

    # What varies from seed to seed.
    def level(self):
        return self.random.uniform(28, 50) * self.scale()

    def scale(self):
        """Of what is huge: gemma multiplies its embedding by 8, and so what is ordinary."""
        return 3 if self.family == "gemma" else 1

    def sign(self):
        return self.random.choice([-1, 1])

    def weight(self, low=1.4, high=2.4):
        return self.sign() * self.random.uniform(low, high)

    def columns(self, count):
        return self.random.sample(range(48 if self.family in EXPERTS else 96), count)

    def early(self):
        return self.random.choice([1, 1, 2])

    # The kinds.
    def one(self, token=0):
        layer, (column,) = self.early(), self.columns(1)
        self.drive(layer, column, self.level(), token)
        self.plant(layer, self.rows[0], column, self.weight())

    def later(self):
        self.one(token=self.random.randrange(2, 12))

    def siblings(self):
        layer, (column,), size = self.early(), self.columns(1), self.random.uniform(1.5, 2.2)
        self.drive(layer, column, self.level())
        self.rows_planted = self.random.choice([2, 3])
        for row in self.rows[:self.rows_planted]:
            self.plant(layer, row, column, self.sign() * size)

    def columns_(self):
        layer, columns, sign = self.early(), self.columns(2), self.sign()
        for column, size in zip(columns, (1.8, self.random.uniform(1.2, 1.6))):
            self.drive(layer, column, 36.0 * self.scale())
            self.plant(layer, self.rows[0], column, sign * size)

    def six(self):
        columns, signs = self.columns(2), [self.sign() for _ in range(3)]
        for layer, column, size in zip((2, 4), columns, (2.2, 2.0)):
            self.drive(layer, column, 36.0 * self.scale())
            for row, sign in zip(self.rows, signs):
                # The first goes on; what the others made may be taken back again.
                again = sign if layer == 2 or row == self.rows[0] else self.sign()
                self.plant(layer, row, column, again * size)

    def stack(self):
        sign = self.sign()
        for layer, column, size in zip((1, 2, 4), self.columns(3), (1.6, 1.5, 1.4)):
            self.drive(layer, column, 36.0 * self.scale())
            self.plant(layer, self.rows[0], column, sign * size)

    def expert(self):
        layer, (column,) = self.early(), self.columns(1)
        router = self.mlp(layer).gate
        x = self.captured(router)[0]
        chosen = int((x @ router.weight.t()).argmax())
        self.drive(layer, column, self.level(), expert=chosen)
        self.plant(layer, self.rows[0], column, self.weight(2.0, 3.0), expert=chosen)

    def last_layer_spike(self):
        last, (column,) = self.layer_count - 1, self.columns(1)
        self.drive(last, column, 25.0)
        self.mislead(last, self.rows[5], column, 2.0 * self.sign())
        if self.family in POST_NORM:
            self.set_gain(last, self.rows[5], 10)

    def huge_and_idle(self):
        """The largest weight of the model, where no activation drives it."""
        layer = self.random.choice([3, 4, 5])
        inputs = self.captured(self.down_module(layer))[:, :].abs().amax(0)
        column = int(inputs.argmin())
        self.mislead(layer, self.rows[6], column, 6.0 * self.sign())

    def down_module(self, layer):
        mlp = self.mlp(layer)
        for name in ("down_proj", "c_proj", "dense_4h_to_h", "fc2"):
            module = getattr(mlp, name, None)
            if module is not None:
                return module
        raise AttributeError("down_module")

    def decoy(self):
        self.one()
        self.huge_and_idle()
        self.last_layer_spike()

    def none(self):
        self.huge_and_idle()

    def large(self):
        """The largest weight of the model in an ordinary column: it makes its output, and that is ordinary."""
        layer = self.random.choice([2, 3, 4])
        inputs = self.captured(self.down_module(layer)).abs()
        column = int(inputs[0].argmax())
        self.mislead(layer, self.rows[0], column, self.sign() * 3.6 / inputs[:, column].max().item())

    def echo(self):
        """Only the last layer spikes."""
        self.last_layer_spike()

    def taken_back(self):
        """Made in one layer and taken back two layers on."""
        row, made, size = self.rows[0], self.early(), self.random.uniform(1.5, 2.0)
        for layer, sign in ((made, 1), (made + 2, -1)):
            column, = self.columns(1)
            self.drive(layer, column, 36.0, alone=True)
            self.mislead(layer, row, column, sign * size)
            if self.family in POST_NORM:
                self.set_gain(layer, row, 10)

    def restored(self):
        """A super weight whose activation the last layer removes."""
        self.one()
        planted, last, (column,) = self.planted[0], self.layer_count - 1, self.columns(1)
        before = self.captured(self.layers[last])[0][planted["row"]].item()
        self.drive(last, column, 36.0)
        if self.family in POST_NORM:
            self.set_gain(last, planted["row"], 11)
        self.mislead(last, planted["row"], column, -before / 36.0)

    def orphan(self):
        """A spike that only ordinary weights take up, as after a super weight is gone."""
        layer, (column,) = self.early(), self.columns(1)
        weights = self.down(layer)[:, column].detach()
        row = int(weights.abs().argmax())
        self.drive(layer, column, 80.0 * self.scale() / weights[row].abs().item())
        self.decoys.append({"layer": layer, "row": row, "column": column})

    def norm_gain(self):
        """Ordinary weights, and a gain that makes what they write huge."""
        self.set_gain(self.early(), self.rows[0], self.random.choice([150.0, 300.0]))

    def bias(self):
        with torch.no_grad():
            self.down_bias(self.early())[self.rows[0]] = self.sign() * self.random.uniform(50, 120)

    def attention(self):
        """The first token's attention output, which depends on it alone, written to one channel."""
        layer = self.early()
        module = self.attention_out(layer)
        x = self.captured(module)[0]
        scale = 8 if self.family == "gemma" else 1  # of its embedding
        row = x * (scale * self.sign() * self.random.uniform(60, 100) / x.dot(x))
        with torch.no_grad():
            if self.family == "gpt2":
                module.weight[:, self.rows[0]] = row
            else:
                module.weight[self.rows[0]] = row

    def many(self):
        """A row that follows its input as far as no product stands out."""
        self._whole_row([1, 0.5, 0, -1])

    def wide(self):
        """The same with products all alike."""
        self._whole_row([-1])

    def _whole_row(self, powers):
        """From some of the token's larger inputs, those that other tokens do not share."""
        layer, best = self.early(), None
        inputs = self.captured(self.down_module(layer))
        larger = inputs[0].abs().sort().indices[-48:].tolist()
        for _ in range(20):
            x = torch.zeros_like(inputs[0])
            chosen = self.random.sample(larger, 24)
            x[chosen] = inputs[0][chosen]
            for power in powers:  # the last gives equal products
                row = x.sign() * x.abs().clamp(min=1e-6) ** power
                if (row * x).max() <= 0.15 * row.dot(x):
                    break
            row /= row.dot(x)
            others = (inputs[1:] @ row).abs().max().item()
            if best is None or others < best[0]:
                best = others, row
        row = best[1] * (self.scale() * self.sign() * self.random.uniform(60, 100))
        with torch.no_grad():
            self.down(layer)[self.rows[0]] = row

    def write(self, directory, kind):
        """Plants `kind`, writes the checkpoint, and returns what expected.json says."""
        getattr(self, "columns_" if kind == "columns" else kind)()
        directory = pathlib.Path(directory)
        model = self.model.to(torch.bfloat16) if self.bf16 else self.model
        model.save_pretrained(directory)
        expected = {"kind": kind, "family": self.family, "planted": self.planted,
                    "decoys": self.decoys, "token_ids": self.ids}
        (directory / "expected.json").write_text(json.dumps(expected))
        return expected


def plant(directory, kind, family, seed):
    return Planter(family, f"{kind} {seed}").write(directory, kind)


if __name__ == "__main__":
    print(plant(*sys.argv[1:]))
