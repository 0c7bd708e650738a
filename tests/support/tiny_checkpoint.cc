#include "tests/support/tiny_checkpoint.h"

#include "fmt/format.h"
#include "format/shard_index.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// Between -1/16 and 1/16, now and then ten times that.
float WeightAt(uint64_t seed, uint64_t index) {
  const uint64_t bits = MixBits(seed * 1000003 + index);
  const float value = (static_cast<float>(bits & 0xffff) - 32768.0F) / 524288.0F;
  return (bits >> 32) % 97 == 0 ? 10 * value : value;
}

TensorFixture Make(const TinyCheckpoint& tiny, std::string name, std::vector<int64_t> shape) {
  uint64_t seed = 0;
  for (const char c : name) seed = MixBits(seed + static_cast<unsigned char>(c));
  std::vector<float> values(static_cast<size_t>(ElementCount(shape).value()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = shape.size() == 1 ? 1.0F : WeightAt(seed >> 8, i);
  }
  TensorFixture tensor = MakeTensor(std::move(name), tiny.dtype, std::move(shape), values);
  if (tiny.edit) tiny.edit(tensor);
  return tensor;
}

// What a mixtral says besides.
std::string ExpertsText(const TinyCheckpoint& tiny) {
  if (tiny.experts == 0) return "";
  return fmt::format(R"(
  "num_local_experts": {},
  "num_experts_per_tok": 1,)",
                     tiny.experts);
}

std::string ConfigText(const TinyCheckpoint& tiny) {
  const bool mixtral = tiny.experts > 0;
  return fmt::format(R"({{
  "architectures": ["{}"],
  "model_type": "{}",{}
  "hidden_size": {},
  "intermediate_size": {},
  "num_hidden_layers": {},
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "vocab_size": {},
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
  "tie_word_embeddings": {},
  "bos_token_id": 1
}}
)",
                     mixtral ? "MixtralForCausalLM" : "LlamaForCausalLM",
                     mixtral ? "mixtral" : "llama", ExpertsText(tiny), tiny.hidden,
                     tiny.intermediate, tiny.layers, tiny.vocab, tiny.tied);
}

}  // namespace

uint64_t MixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::vector<TensorFixture> TinyTensors(const TinyCheckpoint& tiny) {
  const int64_t h = tiny.hidden;
  std::vector<TensorFixture> tensors = {Make(tiny, "model.embed_tokens.weight", {tiny.vocab, h})};
  for (int64_t layer = 0; layer < tiny.layers; ++layer) {
    const auto add = [&](std::string_view name, std::vector<int64_t> shape) {
      tensors.push_back(
          Make(tiny, fmt::format("model.layers.{}.{}.weight", layer, name), std::move(shape)));
    };
    add("input_layernorm", {h});
    add("self_attn.q_proj", {h, h});
    add("self_attn.k_proj", {h / 2, h});
    add("self_attn.v_proj", {h / 2, h});
    add("self_attn.o_proj", {h, h});
    add("post_attention_layernorm", {h});
    if (tiny.experts > 0) add("block_sparse_moe.gate", {tiny.experts, h});
    for (int64_t expert = 0; expert < tiny.experts; ++expert) {
      const std::string prefix = fmt::format("block_sparse_moe.experts.{}.", expert);
      add(prefix + "w1", {tiny.intermediate, h});
      add(prefix + "w2", {h, tiny.intermediate});
      add(prefix + "w3", {tiny.intermediate, h});
    }
    if (tiny.experts > 0) continue;
    add("mlp.gate_proj", {tiny.intermediate, h});
    add("mlp.up_proj", {tiny.intermediate, h});
    add("mlp.down_proj", {h, tiny.intermediate});
  }
  tensors.push_back(Make(tiny, "model.norm.weight", {h}));
  if (!tiny.tied) tensors.push_back(Make(tiny, "lm_head.weight", {tiny.vocab, h}));
  return tensors;
}

void PutTinyCheckpoint(MemoryStorage& storage, const std::string& directory,
                       const TinyCheckpoint& tiny) {
  const auto put = [&](const std::string& name, std::string_view text) {
    storage.Put(directory + "/" + name, ToBytes(text));
  };
  put("config.json", ConfigText(tiny));
  put("tokenizer.json", "{\"not\": \"read here\"}\n");
  put("LICENSE", "Anyone may do anything with these numbers.\n");
  std::vector<std::vector<TensorFixture>> shards(tiny.shards);
  ShardIndex index;
  const std::vector<TensorFixture> tensors = TinyTensors(tiny);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const size_t shard = i * shards.size() / tensors.size();
    index.weight_map[tensors[i].info.name] =
        fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, tiny.shards);
    index.total_size += tensors[i].bytes.size();
    shards[shard].push_back(tensors[i]);
  }
  if (tiny.shards == 1) {
    put("model.safetensors", SafetensorsFile(tensors, tiny.metadata));
    return;
  }
  for (int i = 0; i < tiny.shards; ++i) {
    put(fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, tiny.shards),
        SafetensorsFile(shards[i], tiny.metadata));
  }
  put(std::string(kShardIndexName), SerializeShardIndex(index));
}

void SetElement(TensorFixture& tensor, int64_t row, int64_t column, float value) {
  const int64_t size = SizeOf(tensor.info.dtype);
  const int64_t index = row * tensor.info.shape.back() + column;
  StoreAs(tensor.info.dtype, value,
          reinterpret_cast<std::byte*>(tensor.bytes.data() + index * size));
}

}  // namespace linchpin
