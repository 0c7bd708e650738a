#include "artifact/lora_adapter.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/gguf_layout.h"
#include "format/json.h"
#include "format/safetensors.h"

namespace linchpin {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr uint32_t kGgufF32 = 0;

// A matrix of float32 in row-major order.
struct Factor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// down [rank, columns] and up [rows, rank]; up x down is what is added.
struct Factors {
  Factor down;
  Factor up;
};

bool ByRows(const AdaptedWeight& weight) {
  std::set<int64_t> rows, columns;
  for (const auto& miss : weight.misses) {
    rows.insert(miss.row);
    columns.insert(miss.column);
  }
  return rows.size() <= columns.size();
}

int64_t RankOf(const AdaptedWeight& weight) {
  std::set<int64_t> lines;
  const bool by_rows = ByRows(weight);
  for (const auto& miss : weight.misses) lines.insert(by_rows ? miss.row : miss.column);
  return static_cast<int64_t>(lines.size());
}

// Ranks beyond the weight's own are zeros.
Factors FactorsOf(const AdaptedWeight& weight, int64_t rank) {
  Factors factors{{{rank, weight.columns}, std::vector<float>(rank * weight.columns)},
                  {{weight.rows, rank}, std::vector<float>(weight.rows * rank)}};
  const bool by_rows = ByRows(weight);
  std::map<int64_t, int64_t> ranks;  // of a row, or a column
  for (const auto& miss : weight.misses) {
    const int64_t line = by_rows ? miss.row : miss.column;
    const int64_t at = ranks.emplace(line, static_cast<int64_t>(ranks.size())).first->second;
    float& down = factors.down.values[at * weight.columns + miss.column];
    float& up = factors.up.values[miss.row * rank + at];
    down = by_rows ? miss.value : 1;
    up = by_rows ? 1 : miss.value;
  }
  return factors;
}

int64_t LargestRank(const std::vector<AdaptedWeight>& weights) {
  int64_t rank = 1;
  for (const AdaptedWeight& weight : weights) rank = std::max(rank, RankOf(weight));
  return rank;
}

void CopyTo(const Factor& factor, uint64_t begin, std::string& file) {
  std::memcpy(file.data() + begin, factor.values.data(), factor.values.size() * sizeof(float));
}

std::string ModuleName(std::string_view name) {
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  return std::string(name);
}

Json PeftConfig(const std::vector<AdaptedWeight>& weights, int64_t rank) {
  Json modules = Json::array();
  for (const AdaptedWeight& weight : weights) modules.push_back(ModuleName(weight.name));
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", nullptr},
          {"r", rank},
          {"lora_alpha", rank},  // the product counts as it is
          {"lora_dropout", 0.0},
          {"target_modules", std::move(modules)},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"inference_mode", true}};
}

std::string PeftTensors(const std::vector<AdaptedWeight>& weights, int64_t rank) {
  std::vector<TensorInfo> infos;
  std::vector<Factor> factors;
  for (const AdaptedWeight& weight : weights) {
    const std::string stem = "base_model.model." + ModuleName(weight.name);
    Factors both = FactorsOf(weight, rank);
    infos.push_back({stem + ".lora_A.weight", DType::kF32, both.down.shape});
    infos.push_back({stem + ".lora_B.weight", DType::kF32, both.up.shape});
    factors.push_back(std::move(both.down));
    factors.push_back(std::move(both.up));
  }
  const SafetensorsLayout layout = LayOutSafetensors(infos, {{"format", "pt"}});
  std::string file = layout.header;
  file.resize(layout.file_size);
  for (size_t i = 0; i < factors.size(); ++i) CopyTo(factors[i], layout.entries[i].begin, file);
  return file;
}

}  // namespace

std::vector<AdapterFile> PeftAdapter(const std::vector<AdaptedWeight>& weights) {
  const int64_t rank = LargestRank(weights);
  return {
      {fmt::format("{}/adapter_config.json", kPeftDirectory),
       PeftConfig(weights, rank).dump(2) + "\n"},
      {fmt::format("{}/adapter_model.safetensors", kPeftDirectory), PeftTensors(weights, rank)}};
}

absl::StatusOr<AdapterFile> GgufAdapter(std::string_view architecture,
                                        const std::vector<AdaptedWeight>& weights) {
  const int64_t rank = LargestRank(weights);
  const std::string type = GgufValueBytes(std::string_view("adapter"));
  const std::string kind = GgufValueBytes(std::string_view("lora"));
  const std::string family = GgufValueBytes(architecture);
  const std::string alpha = GgufValueBytes(static_cast<float>(rank));
  const std::vector<GgufKeyValue> pairs = {{"general.type", type},
                                           {"general.architecture", family},
                                           {"adapter.type", kind},
                                           {"adapter.lora.alpha", alpha}};
  std::vector<GgufTensor> tensors;
  std::vector<Factor> factors;
  for (const AdaptedWeight& weight : weights) {
    Factors both = FactorsOf(weight, rank);
    tensors.push_back({weight.name + ".lora_a", FindGgufBlockType(kGgufF32), both.down.shape});
    tensors.push_back({weight.name + ".lora_b", FindGgufBlockType(kGgufF32), both.up.shape});
    factors.push_back(std::move(both.down));
    factors.push_back(std::move(both.up));
  }
  AdapterFile file{std::string(kGgufAdapterName), ""};
  ASSIGN_OR_RETURN(GgufLayout layout, LayOutGguf(file.name, pairs, std::move(tensors)));
  file.bytes = std::move(layout.header);
  file.bytes.resize(layout.file_size);
  for (size_t i = 0; i < factors.size(); ++i)
    CopyTo(factors[i], layout.tensors[i].begin, file.bytes);
  return file;
}

}  // namespace linchpin
