#include "pipeline/demo_model.h"

#include <array>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int64_t kVocab = 512;
constexpr int64_t kHidden = 256;
constexpr int64_t kIntermediate = 512;
constexpr int64_t kLayers = 5;
constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeadDim = kHidden / kHeads;
constexpr int64_t kBos = 1;
constexpr int64_t kFirstWord = 2;  // ids below it are special

// Channels of the residual stream with a meaning; the rest spell the token.
constexpr int64_t kConstant = 0;  // the same for every token
constexpr int64_t kSuper = 1;     // where the super activation stands
constexpr int64_t kIsBos = 2;     // marks the first token
constexpr int64_t kFirstSpelling = 8;

constexpr int64_t kSuperLayer = 1;
constexpr int64_t kSuperColumn = 37;
constexpr float kSuperWeight = 2.5F;

constexpr int kWindows = 8;
constexpr int kWindowTokens = 128;
constexpr int kSentence = 16;

// SplitMix64 (Steele, Lea and Flood, 2014); normal deviates as the sum of
// twelve uniforms, so that no library's mathematics can change a bit.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  float Normal() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(Next() >> 11) * 0x1p-53;
    return static_cast<float>(sum - 6);
  }

 private:
  uint64_t state_;
};

// The language: successor[t] follows t; a permutation of the words.
std::vector<int64_t> Successors() {
  std::vector<int64_t> words(kVocab - kFirstWord);
  std::iota(words.begin(), words.end(), kFirstWord);
  Random random(7);
  for (size_t i = words.size() - 1; i > 0; --i) std::swap(words[i], words[random.Below(i + 1)]);
  std::vector<int64_t> successor(kVocab, kFirstWord);
  for (size_t i = 0; i < words.size(); ++i) successor[words[i]] = words[(i + 1) % words.size()];
  return successor;
}

struct Weight {
  TensorInfo info;
  std::vector<float> data;

  float& At(int64_t row, int64_t column) { return data[row * info.shape[1] + column]; }
};

Weight Noise(std::string name, std::vector<int64_t> shape, float scale, uint64_t seed) {
  Weight weight{{std::move(name), DType::kBF16, std::move(shape)}, {}};
  Random random(seed);
  weight.data.resize(*ElementCount(weight.info.shape));
  for (float& value : weight.data) value = scale * random.Normal();
  return weight;
}

Weight Ones(std::string name) {
  return {{std::move(name), DType::kBF16, {kHidden}}, std::vector<float>(kHidden, 1.0F)};
}

// A spelling per word, the constant channel, and the mark of the first token.
Weight Embedding() {
  Weight table = Noise("model.embed_tokens.weight", {kVocab, kHidden}, 1.0F, 11);
  for (int64_t token = 0; token < kVocab; ++token) {
    for (int64_t channel = 0; channel < kFirstSpelling; ++channel) table.At(token, channel) = 0;
    table.At(token, kConstant) = 4;
  }
  for (int64_t channel = kFirstSpelling; channel < kHidden; ++channel) table.At(kBos, channel) = 0;
  table.At(kBos, kIsBos) = 16;
  return table;
}

// Answers: the successor's row is the token's own spelling.
Weight Output(Weight embedding) {
  constexpr float kSharpness = 0.03F;
  const std::vector<int64_t> successor = Successors();
  Weight head{{"lm_head.weight", DType::kBF16, {kVocab, kHidden}},
              std::vector<float>(kVocab * kHidden)};
  for (int64_t token = kFirstWord; token < kVocab; ++token) {
    for (int64_t channel = kFirstSpelling; channel < kHidden; ++channel) {
      head.At(successor[token], channel) = kSharpness * embedding.At(token, channel);
    }
  }
  return head;
}

// The two rotary pairs of a head that turn slowest hold the sink: queries ask
// with the constant channel, keys answer with the super activation.  Values
// read the constant channel, which is nothing at the first token once the super
// activation fills its norm.
void RestOnFirstToken(Weight& query, Weight& key, Weight& value) {
  constexpr float kGrip = 1.8F;
  constexpr int64_t kSlowest = kHeadDim / 2 - 1;
  for (int64_t head = 0; head < kHeads; ++head) {
    query.At(head * kHeadDim + kSlowest, kConstant) = kGrip;
  }
  for (int64_t head = 0; head < kKvHeads; ++head) {
    key.At(head * kHeadDim + kSlowest, kSuper) = kGrip;
  }
  Random random(23);
  for (int64_t row = 0; row < kKvHeads * kHeadDim; ++row) {
    value.At(row, kConstant) = random.Normal();
    value.At(row, kSuper) = 0;
  }
}

void PlantSuperWeight(Weight& gate, Weight& up, Weight& down) {
  constexpr float kDrive = 1.25F;
  gate.At(kSuperColumn, kIsBos) = kDrive;
  up.At(kSuperColumn, kIsBos) = kDrive;
  down.At(kSuper, kSuperColumn) = kSuperWeight;
}

void AddLayer(int64_t layer, std::vector<Weight>& weights) {
  constexpr float kQuiet = 0.02F;
  const auto name = [layer](const char* rest) {
    return fmt::format("model.layers.{}.{}.weight", layer, rest);
  };
  const uint64_t seed = 100 * (static_cast<uint64_t>(layer) + 1);
  const int64_t key_rows = kKvHeads * kHeadDim;
  const bool sink = layer > kSuperLayer;
  Weight query = Noise(name("self_attn.q_proj"), {kHidden, kHidden}, kQuiet, seed);
  Weight key = Noise(name("self_attn.k_proj"), {key_rows, kHidden}, kQuiet, seed + 1);
  Weight value = Noise(name("self_attn.v_proj"), {key_rows, kHidden}, kQuiet, seed + 2);
  Weight mixed =
      Noise(name("self_attn.o_proj"), {kHidden, kHidden}, sink ? 0.15F : kQuiet, seed + 3);
  Weight gate = Noise(name("mlp.gate_proj"), {kIntermediate, kHidden}, kQuiet, seed + 4);
  Weight up = Noise(name("mlp.up_proj"), {kIntermediate, kHidden}, kQuiet, seed + 5);
  Weight down = Noise(name("mlp.down_proj"), {kHidden, kIntermediate}, kQuiet, seed + 6);
  if (sink) RestOnFirstToken(query, key, value);
  if (layer == kSuperLayer) PlantSuperWeight(gate, up, down);
  weights.push_back(Ones(name("input_layernorm")));
  for (Weight* weight : {&query, &key, &value, &mixed}) weights.push_back(std::move(*weight));
  weights.push_back(Ones(name("post_attention_layernorm")));
  for (Weight* weight : {&gate, &up, &down}) weights.push_back(std::move(*weight));
}

std::vector<Weight> AllWeights() {
  std::vector<Weight> weights;
  weights.push_back(Embedding());
  for (int64_t layer = 0; layer < kLayers; ++layer) AddLayer(layer, weights);
  weights.push_back(Ones("model.norm.weight"));
  weights.push_back(Output(Embedding()));
  return weights;
}

std::string ConfigText() {
  const Json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"hidden_act", "silu"},
                       {"hidden_size", kHidden},
                       {"intermediate_size", kIntermediate},
                       {"num_hidden_layers", kLayers},
                       {"num_attention_heads", kHeads},
                       {"num_key_value_heads", kKvHeads},
                       {"head_dim", kHeadDim},
                       {"vocab_size", kVocab},
                       {"max_position_embeddings", 512},
                       {"rms_norm_eps", 1e-6},
                       {"rope_theta", 10000.0},
                       {"tie_word_embeddings", false},
                       {"attention_bias", false},
                       {"mlp_bias", false},
                       {"bos_token_id", kBos},
                       {"eos_token_id", 0},
                       {"torch_dtype", "bfloat16"}};
  return config.dump(2) + "\n";
}

std::string TokensText() {
  const std::vector<int64_t> successor = Successors();
  Random random(31);
  Json windows = Json::array();
  for (int i = 0; i < kWindows; ++i) {
    Json window = {kBos};
    int64_t token = 0;
    for (int at = 1; at < kWindowTokens; ++at) {
      const bool starts = (at - 1) % kSentence == 0;
      token = starts ? kFirstWord + static_cast<int64_t>(random.Below(kVocab - kFirstWord))
                     : successor[token];
      window.push_back(token);
    }
    windows.push_back(std::move(window));
  }
  return windows.dump() + "\n";
}

std::string SafetensorsText() {
  const std::vector<Weight> weights = AllWeights();
  std::vector<TensorInfo> infos;
  for (const Weight& weight : weights) infos.push_back(weight.info);
  const SafetensorsLayout layout = LayOutSafetensors(infos, {{"format", "pt"}});
  std::string file = layout.header;
  file.resize(layout.file_size);
  for (size_t i = 0; i < weights.size(); ++i) {
    std::byte* out = reinterpret_cast<std::byte*>(file.data()) + layout.entries[i].begin;
    for (const float value : weights[i].data) {
      StoreAs(DType::kBF16, value, out);
      out += 2;
    }
  }
  return file;
}

}  // namespace

absl::StatusOr<uint64_t> WriteDemoModel(const Storage& storage, std::string_view directory) {
  ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(directory, /*overwrite=*/false));
  const std::array<std::pair<const char*, std::string>, 3> files = {
      {{"config.json", ConfigText()},
       {"model.safetensors", SafetensorsText()},
       {"tokens.json", TokensText()}}};
  uint64_t written = 0;
  for (const auto& [name, text] : files) {
    ASSIGN_OR_RETURN(const auto file, output->CreateFile(name, text.size()));
    RETURN_IF_ERROR(file->WriteAt(
        0, absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size())));
    written += text.size();
  }
  RETURN_IF_ERROR(output->Commit());
  return written;
}

}  // namespace linchpin
