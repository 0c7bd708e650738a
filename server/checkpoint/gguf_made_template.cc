// GgufTemplate::Make: the file that llama.cpp's converter would make of a model.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/status.h"
#include "checkpoint/config_difference.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_settings.h"
#include "checkpoint/gguf_template.h"
#include "checkpoint/gguf_tensors.h"
#include "checkpoint/gguf_vocabulary.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "format/gguf_layout.h"
#include "storage/storage.h"

namespace linchpin {
namespace {

constexpr uint32_t kF32 = 0;
constexpr uint64_t kMaxSettingsBytes = uint64_t{1} << 24;
constexpr std::string_view kRemedy =
    "name a GGUF file of the same model as donor (--gguf-donor), or choose another format";

// The text of a file beside the weights; empty where there is none.
absl::StatusOr<std::string> TextOfFile(const Checkpoint& model, std::string_view name) {
  const auto file = model.OpenFile(name);
  if (ReasonOf(file.status()) == Reason::kSourceNotFound) return std::string();
  RETURN_IF_ERROR(file.status());
  if ((*file)->size() > kMaxSettingsBytes) {
    return Error(Reason::kTokenizerInvalid, name, "it is larger than 16 MiB", kRemedy);
  }
  std::string text((*file)->size(), '\0');
  RETURN_IF_ERROR((*file)->ReadAt(0, {reinterpret_cast<std::byte*>(text.data()), text.size()}));
  return text;
}

absl::StatusOr<std::string> TokenizerOf(const Checkpoint& model) {
  absl::StatusOr<std::string> text = model.TokenizerText();
  if (ReasonOf(text.status()) != Reason::kSourceNotFound) return text;
  return Error(Reason::kFeatureUnsupported, model.path(),
               "it has no tokenizer.json, from which that of a GGUF file is made", kRemedy);
}

// The tensors of a file, by the family's names, and the bytes of those that are
// not the model's.
class TensorList {
 public:
  TensorList(const Checkpoint& model, const ModelConfig& config, const GgufFamily& family)
      : config_(config), family_(family) {
    for (const StoredTensor& tensor : model.tensors()) shapes_[tensor.info.name] = &tensor;
    for (const StoredTensor& tensor : model.tensors()) {
      if (tensor.scales) used_.insert(&model.tensors()[*tensor.scales]);
    }
  }

  absl::Status Make() {
    AddRopeFactors();
    for (const GgufTensorName& name : GgufOuterTensors()) {
      // Told by its absence to be the embedding, too.
      const bool tied = name.gguf == "output" && config_.tied_embeddings.value_or(false);
      if (name.kind != GgufTensorKind::kConfig && !tied) AddBoth(name, "", "");
    }
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      const std::string block = fmt::format("blk.{}.", layer);
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      for (const auto& names : family_.tensors) {
        for (const GgufTensorName& name : names) {
          if (name.kind == GgufTensorKind::kExpert) continue;
          if (name.kind == GgufTensorKind::kExperts) {
            RETURN_IF_ERROR(AddExperts(name, block, prefix));
          } else {
            AddBoth(name, block, prefix);
          }
        }
      }
    }
    return CheckAllUsed();
  }

  std::vector<GgufTensor>& tensors() { return tensors_; }
  std::map<std::string, std::string>& contents() { return contents_; }
  const GgufRopeFactors& factors() const { return factors_; }

 private:
  const StoredTensor* Take(const std::string& name) {
    const auto found = shapes_.find(name);
    if (found == shapes_.end()) return nullptr;
    used_.insert(found->second);
    return found->second;
  }

  void Add(std::string name, std::vector<int64_t> shape) {
    tensors_.push_back({std::move(name), FindGgufBlockType(kF32), std::move(shape)});
  }

  void AddBoth(const GgufTensorName& name, std::string_view block, std::string_view prefix) {
    for (const std::string_view suffix : {".weight", ".bias"}) {
      const StoredTensor* tensor = Take(fmt::format("{}{}{}", prefix, name.hf, suffix));
      if (tensor == nullptr) continue;
      std::vector<int64_t> shape = tensor->info.shape;
      if (name.kind == GgufTensorKind::kRow && shape.size() == 2) shape.erase(shape.begin());
      Add(fmt::format("{}{}{}", block, name.gguf, suffix), std::move(shape));
    }
  }

  // All of one shape, which what follows the pattern compares.
  absl::Status AddExperts(const GgufTensorName& name, std::string_view block,
                          std::string_view prefix) {
    std::vector<int64_t> shape = {config_.experts.count};
    for (int64_t expert = 0; expert < config_.experts.count; ++expert) {
      const std::string hf =
          fmt::format("{}{}.weight", prefix, fmt::format(fmt::runtime(name.hf), expert));
      const StoredTensor* tensor = Take(hf);
      if (tensor == nullptr) {
        return Error(Reason::kTensorMissing, fmt::format("tensor {}", hf), "is missing",
                     "fetch the checkpoint again");
      }
      if (expert == 0) {
        shape.insert(shape.end(), tensor->info.shape.begin(), tensor->info.shape.end());
      }
    }
    Add(fmt::format("{}{}.weight", block, name.gguf), std::move(shape));
    return absl::OkStatus();
  }

  void AddRopeFactors() {
    const RopeConfig& rope = config_.rope.full;
    const RopeDivisors divisors = RopeDivisorsOf(rope, RotatedDimensions(config_));
    if (rope.type == RopeType::kLlama3) {
      factors_.always = divisors.within;
      AddVector("rope_freqs.weight", divisors.within);
    } else if (rope.type == RopeType::kLongRope) {
      factors_.long_context = divisors.beyond;
      factors_.short_context = divisors.within;
      AddVector("rope_factors_long.weight", divisors.beyond);
      AddVector("rope_factors_short.weight", divisors.within);
    }
  }

  void AddVector(const std::string& name, const std::vector<float>& values) {
    Add(name, {static_cast<int64_t>(values.size())});
    contents_[name] =
        std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }

  // Frequencies that files of old hold follow from the config, and a head that is
  // tied is the embedding, stored or not.
  absl::Status CheckAllUsed() const {
    for (const auto& [name, tensor] : shapes_) {
      const bool follows = name.ends_with("rotary_emb.inv_freq") ||
                           (name == "lm_head.weight" && config_.tied_embeddings.value_or(false));
      if (used_.contains(tensor) || follows) continue;
      return Error(
          Reason::kFeatureUnsupported, fmt::format("tensor {}", name),
          fmt::format("a GGUF file of architecture {} has no place for it", family_.architecture),
          "choose another format");
    }
    return absl::OkStatus();
  }

  const ModelConfig& config_;
  const GgufFamily& family_;
  std::map<std::string, const StoredTensor*> shapes_;
  std::set<const StoredTensor*> used_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::string> contents_;
  GgufRopeFactors factors_;
};

absl::Status CheckWindows(const ModelConfig& config, const GgufFamily& family) {
  const int64_t window = *std::max_element(config.windows.begin(), config.windows.end());
  const bool is_seen = window > 0 && (window < config.max_positions || config.max_positions == 0);
  if (!is_seen || family.runs_windows) return absl::OkStatus();
  return Error(Reason::kFeatureUnsupported, "config.json",
               fmt::format("its tokens see {} others, in llama.cpp those of a model of "
                           "architecture {} see all",
                           window, family.architecture),
               kRemedy);
}

absl::Status CheckReadAs(const ModelConfig& config, const GgufFamily& family,
                         std::string_view config_text) {
  ASSIGN_OR_RETURN(const ModelConfig read, ModelConfig::Parse("model.gguf", config_text));
  const auto difference = FirstDifference(config, read);
  if (!difference) return absl::OkStatus();
  return Error(
      Reason::kFeatureUnsupported, "config.json",
      fmt::format("its {} is {}, a GGUF file of architecture {} can only say {}",
                  difference->setting, difference->mine, family.architecture, difference->theirs),
      kRemedy);
}

}  // namespace

absl::StatusOr<GgufTemplate> GgufTemplate::Make(const Checkpoint& model) {
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", model.config_text()));
  ASSIGN_OR_RETURN(const GgufFamily* family, GgufFamilyOf(config));
  RETURN_IF_ERROR(CheckWindows(config, *family));
  TensorList list(model, config, *family);
  RETURN_IF_ERROR(list.Make());
  GgufPairs pairs;
  AddGgufSettings(config, *family, pairs);
  TokenizerFiles tokenizer;
  GgufTemplate result;
  ASSIGN_OR_RETURN(tokenizer.tokenizer, TokenizerOf(model));
  ASSIGN_OR_RETURN(tokenizer.settings, TextOfFile(model, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(tokenizer.chat_template, TextOfFile(model, "chat_template.jinja"));
  tokenizer.config = model.config_text();
  RETURN_IF_ERROR(AddGgufVocabulary(tokenizer, config.vocab, pairs, result.notes_));
  result.notes_.emplace_back("metadata and tokenizer are made from config.json and tokenizer.json");

  // Laid out and read again: the same that a file of somebody else goes through.
  ASSIGN_OR_RETURN(const GgufLayout layout,
                   LayOutGguf("model.gguf", pairs.views(), std::move(list.tensors())));
  GgufFile file{"model.gguf", {layout.header.begin(), layout.header.end()}, {}};
  ASSIGN_OR_RETURN(auto header, ParseGgufHeader(file.path, {file.text.data(), file.text.size()},
                                                layout.file_size));
  if (!header) {
    return Error(Reason::kInternal, "model.gguf", "its header was not laid out whole");
  }
  file.header = *std::move(header);
  result.files_.push_back(std::move(file));
  const GgufFields fields(result.files_.front().path, result.files_.front().header);
  ASSIGN_OR_RETURN(family, FindGgufFamily(fields));
  ASSIGN_OR_RETURN(const std::vector<StoredTensor> parts,
                   GgufTensors(fields, result.files_, *family));
  ASSIGN_OR_RETURN(const std::string config_text,
                   GgufConfig(fields, *family, parts, list.factors()));
  RETURN_IF_ERROR(CheckReadAs(config, *family, config_text));
  for (const GgufTensor& tensor : result.files_.front().header.tensors) {
    result.slots_.push_back({tensor, 0, {}, list.contents()[tensor.name]});
  }
  RETURN_IF_ERROR(result.AssignParts(parts, model.path()));
  return result;
}

}  // namespace linchpin
