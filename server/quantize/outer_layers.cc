#include "quantize/outer_layers.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/status.h"
#include "fmt/format.h"
#include "quantize/classification.h"
#include "quantize/packed_tensors.h"

namespace linchpin {
namespace {

// By loading it with transformers 5 and compressed-tensors 0.20 (tests/consumers),
// and by what the others' own records say.
constexpr std::string_view kEmbeddingNote =
    "transformers loads an embedding in 8 bits with CompressedTensorsConfig(dequantize=True) only, "
    "vLLM in some families (its pull requests 44340 and 45535), SGLang not";
constexpr std::string_view kHeadNote =
    "an output head in 8 bits needs vLLM with its pull request 37291 of March 2026, or SGLang "
    "with 35228: older ones load it without an error and answer nonsense, and so does transformers "
    "with dequantize=True where the other layers have 4 bits";
constexpr std::string_view kNoMixture =
    "transformers unpacks all layers by the scheme of the first, and would misread it in silence";

class OuterLayers {
 public:
  OuterLayers(const Checkpoint& checkpoint, Plan& plan)
      : checkpoint_(checkpoint), plan_(plan), scheme_(TraitsOf(plan.options.scheme).outer) {}

  absl::Status Quantize(std::string_view option, const std::string& name, bool looked_up) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(name));
    const std::string& stored = tensor->info.name;
    const auto row = std::find_if(plan_.rows.begin(), plan_.rows.end(), [&](const PlanRow& each) {
      return each.source.info.name == stored;
    });
    if (row == plan_.rows.end() || MatchesAny(plan_.options.ignore, stored)) {
      return absl::OkStatus();
    }
    if (IsCodedAlready(*tensor)) {
      plan_.notes.push_back(
          fmt::format("{}: stored as {}, it stays so", stored, tensor->encoding->type->name));
      return absl::OkStatus();
    }
    const std::string obstacle = ObstacleOf(*tensor, looked_up);
    if (!obstacle.empty()) {
      return Error(Reason::kOptionInvalid, option, fmt::format("{}: {}", stored, obstacle),
                   "leave it out, the tensor stays as it is then; dense and gguf take any");
    }
    row->quantized = true;
    row->kept_because.clear();
    row->scheme = scheme_;
    row->group_size = tensor->info.shape[1];
    row->asymmetric = false;
    row->scale = Rule();
    plan_.outer.push_back({ModuleOf(name), looked_up});
    return absl::OkStatus();
  }

  void AddNotes(bool tied) {
    if (plan_.outer.empty()) return;
    if (tied) {
      plan_.notes.emplace_back(
          "embedding and output head are one tensor, which is quantized for both");
    }
    if (plan_.options.format != Format::kCompressedTensors) return;
    for (const OuterLayer& layer : plan_.outer) {
      plan_.notes.emplace_back(layer.looked_up ? kEmbeddingNote : kHeadNote);
    }
  }

 private:
  // More bits would not bring back what a GGUF source lost.
  bool IsCodedAlready(const StoredTensor& tensor) const {
    return plan_.options.format == Format::kGguf && tensor.encoding &&
           !tensor.encoding->type->dtype;
  }

  std::string ObstacleOf(const StoredTensor& tensor, bool looked_up) const {
    const TensorInfo& info = tensor.info;
    const bool unpacked = looked_up || plan_.options.asymmetric;  // no other way to load it
    if (plan_.options.format == Format::kCompressedTensors && unpacked &&
        TraitsOf(scheme_).bits != TraitsOf(plan_.options.scheme).bits) {
      return fmt::format("8 bits beside {}: {}", NameOf(plan_.options.scheme), kNoMixture);
    }
    if (info.shape.size() != 2) return "not a matrix";
    if (!IsFloatWeight(info.dtype) && !tensor.scales && !tensor.encoding) {
      return fmt::format("stored as {}", NameOf(info.dtype));
    }
    return PackingObstacle(TraitsOf(scheme_), /*asymmetric=*/false, info.shape);
  }

  ScaleRule Rule() const {
    if (plan_.options.scale != ScaleRule::kImportance) return plan_.options.scale;
    const bool blocks = TraitsOf(scheme_).codes == CodeKind::kGgufBlocks;
    return blocks ? ScaleRule::kMinMax : ScaleRule::kSigned;
  }

  const Checkpoint& checkpoint_;
  Plan& plan_;
  const Scheme scheme_;
};

}  // namespace

absl::Status QuantizeOuterLayers(const Checkpoint& checkpoint,
                                 const std::optional<OuterTensors>& tensors, Plan& plan) {
  const bool embeddings = plan.options.embeddings != 0;
  const bool lm_head = plan.options.lm_head != 0;
  if (!embeddings && !lm_head) return absl::OkStatus();
  if (!tensors) {
    return Error(Reason::kOptionInvalid, embeddings ? "embeddings" : "lm-head",
                 "the model's family is not known, nor which tensor that is",
                 "leave it out, the tensor stays as it is then");
  }
  ASSIGN_OR_RETURN(const StoredTensor* embedding, checkpoint.Find(tensors->embedding));
  ASSIGN_OR_RETURN(const StoredTensor* output, checkpoint.Find(tensors->output));
  // A head that is stored though the config ties it is read by nobody.
  const bool tied = embedding == output || tensors->tied;
  OuterLayers outer(checkpoint, plan);
  if (embeddings || tied) {
    RETURN_IF_ERROR(outer.Quantize(embeddings ? "embeddings" : "lm-head", tensors->embedding,
                                   /*looked_up=*/true));
  }
  if (lm_head && !tied) {
    RETURN_IF_ERROR(outer.Quantize("lm-head", tensors->output, /*looked_up=*/false));
  }
  outer.AddNotes(tied);
  return absl::OkStatus();
}

}  // namespace linchpin
