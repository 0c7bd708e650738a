#include "detect/mlp_names.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "checkpoint/architecture.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// What a family calls the tensors of an MLP, below the layer; {} is an expert's number.
struct MlpNames {
  std::string_view gate;
  std::string_view up;
  std::string_view gate_up;
  std::string_view down;
  bool transposed = false;
};

std::vector<MlpNames> KnownNames() {
  std::vector<MlpNames> known;
  for (const Architecture& family : Architectures()) {
    const bool turned = family.transposed;
    const bool fused = !family.gate_up.empty();
    known.push_back(
        {fused ? "" : family.gate, fused ? "" : family.up, family.gate_up, family.down, turned});
    known.push_back({family.expert_gate, family.expert_up, "", family.expert_down, turned});
    known.push_back({family.shared_gate, family.shared_up, "", family.shared_down, turned});
  }
  // Families that are not known mix these habits: no gate, or the names of a
  // transposed family for what is not.
  const std::vector<MlpNames> exact = known;
  for (MlpNames names : exact) {
    names.transposed = false;
    if (!names.up.empty()) known.push_back({"", names.up, "", names.down, false});
    known.push_back(names);
  }
  return known;
}

std::optional<int> NumberIn(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

// "model.layers.3.mlp.experts.7.down_proj.weight" in parts.
struct LayerName {
  std::string prefix;  // "model.layers."
  int layer = 0;
  std::string suffix;  // "mlp.experts.{}.down_proj.weight"
  int expert = -1;
};

std::optional<LayerName> Split(std::string_view name) {
  std::optional<LayerName> split;
  for (size_t at = 0; at <= name.size();) {
    const std::string_view part = name.substr(at, name.find('.', at) - at);
    const std::optional<int> number = NumberIn(part);
    if (split) {
      if (!split->suffix.empty()) split->suffix += '.';
      if (number) split->expert = *number;
      split->suffix += number ? "{}" : part;
    } else if (number) {
      split = LayerName{std::string(name.substr(0, at)), *number, "", -1};
    }
    at += part.size() + 1;
  }
  return split;
}

class Finder {
 public:
  explicit Finder(const Checkpoint& checkpoint) {
    for (const StoredTensor& tensor : checkpoint.tensors()) by_name_[tensor.info.name] = &tensor;
  }

  // The MLP that a down_proj of these names belongs to, if all of it is there.
  std::optional<NamedMlp> Find(const LayerName& name, const MlpNames& names) const {
    if (names.down.empty() || name.suffix != fmt::format("{}.weight", names.down)) {
      return std::nullopt;
    }
    NamedMlp mlp{.layer = name.layer, .expert = name.expert, .transposed = names.transposed};
    const std::pair<std::string_view, const StoredTensor**> wanted[] = {
        {names.gate, &mlp.gate},
        {names.up, &mlp.up},
        {names.gate_up, &mlp.gate_up},
        {names.down, &mlp.down}};
    for (const auto& [part, tensor] : wanted) {
      if (part.empty()) continue;
      *tensor = Get(name, part);
      if (*tensor == nullptr) return std::nullopt;
    }
    return Fits(mlp) ? std::optional(mlp) : std::nullopt;
  }

 private:
  const StoredTensor* Get(const LayerName& name, std::string_view part) const {
    std::string numbered(part);
    const size_t at = numbered.find("{}");
    if (at != std::string::npos) numbered.replace(at, 2, std::to_string(name.expert));
    const auto found =
        by_name_.find(fmt::format("{}{}.{}.weight", name.prefix, name.layer, numbered));
    return found == by_name_.end() ? nullptr : found->second;
  }

  // down [hidden, width], gate and up [width, hidden], all turned where they are transposed.
  static bool Fits(const NamedMlp& mlp) {
    if (mlp.down->info.shape.size() != 2) return false;
    const int64_t hidden = mlp.down->info.shape[mlp.transposed ? 1 : 0];
    const int64_t width = mlp.down->info.shape[mlp.transposed ? 0 : 1];
    // The shapes fit either way round; in those families the MLP is the wider.
    if (mlp.transposed && width < hidden) return false;
    const auto is = [&](const StoredTensor* tensor, int64_t rows) {
      if (tensor == nullptr) return true;
      const std::vector<int64_t> shape =
          mlp.transposed ? std::vector<int64_t>{hidden, rows} : std::vector<int64_t>{rows, hidden};
      return tensor->info.shape == shape;
    };
    return is(mlp.gate, width) && is(mlp.up, width) && is(mlp.gate_up, 2 * width);
  }

  std::map<std::string, const StoredTensor*> by_name_;
};

int64_t ElementsOf(const NamedMlp& mlp) {
  return mlp.down->info.shape[0] * mlp.down->info.shape[1];
}

}  // namespace

std::vector<NamedMlp> FindMlps(const Checkpoint& checkpoint) {
  const std::vector<MlpNames> known = KnownNames();
  const Finder finder(checkpoint);
  std::map<std::string, std::vector<NamedMlp>> groups;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::optional<LayerName> name = Split(tensor.info.name);
    if (!name) continue;
    for (const MlpNames& names : known) {
      const std::optional<NamedMlp> mlp = finder.Find(*name, names);
      if (!mlp) continue;
      groups[name->prefix].push_back(*mlp);
      break;
    }
  }
  std::vector<NamedMlp> largest;
  int64_t most = 0;
  for (auto& [prefix, mlps] : groups) {
    int64_t elements = 0;
    for (const NamedMlp& mlp : mlps) elements += ElementsOf(mlp);
    if (elements <= most) continue;
    most = elements;
    largest = std::move(mlps);
  }
  return largest;
}

}  // namespace linchpin
