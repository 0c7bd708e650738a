#include "client/tables.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "client/amounts.h"
#include "client/enum_names.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

using Rows = std::vector<std::vector<std::string>>;

template <typename Strings>
std::string Joined(const Strings& strings) {
  return fmt::format("{}", fmt::join(strings.begin(), strings.end(), ", "));
}

std::string Position(std::string_view tensor, int64_t row, int64_t column) {
  return fmt::format("{}[{},{}]", tensor, row, column);
}

std::string_view VerdictMeaning(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_SINGLE:
      return "exactly one weight matters, and it is critical";
    case v1::VERDICT_SEVERAL:
      return "two or more weights matter, at least one of them alone";
    case v1::VERDICT_DISTRIBUTED:
      return "no weight is critical alone; together they matter, or none carries the activation";
    case v1::VERDICT_NONE:
      return "nothing was found, or nothing found matters";
    default:
      return "there was no proof; ask for one with --proof joint";
  }
}

std::string ProofText(const v1::Detection& detection) {
  if (detection.baseline_perplexity() <= 0) return {};
  if (detection.judged_by_kl()) {
    return detection.super_weights().empty()
               ? std::string()
               : fmt::format("divergence      {:.4g} nats per token without the super weights\n",
                             detection.joint_kl());
  }
  std::string text =
      fmt::format("perplexity      {:.4g} untouched", detection.baseline_perplexity());
  if (detection.joint_perplexity_ratio() > 0) {
    text += fmt::format(", {} without the super weights",
                        RatioText(detection.joint_perplexity_ratio()));
  }
  return text + "\n";
}

// What zeroing a weight does, in the measure that the proof is judged by.
std::string ZeroedText(const v1::SuperWeight& weight, bool judged_by_kl) {
  if (weight.perplexity_ratio() <= 0) return "-";
  return judged_by_kl ? fmt::format("{:.3g}", weight.kl()) : RatioText(weight.perplexity_ratio());
}

std::string NotesText(const google::protobuf::RepeatedPtrField<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += fmt::format("note            {}\n", note);
  return text;
}

std::string SuspectsText(const google::protobuf::RepeatedPtrField<v1::Suspect>& suspects) {
  Rows rows = {{"suspect", "layer", "row", "column", "value", "x median", "share"}};
  for (const v1::Suspect& suspect : suspects) {
    rows.push_back(
        {suspect.tensor(), std::to_string(suspect.layer()), std::to_string(suspect.row()),
         std::to_string(suspect.column()), fmt::format("{}", suspect.value()),
         fmt::format("{:.3g}", suspect.over_median()), fmt::format("{:.3f}", suspect.share())});
  }
  return TableText(rows);
}

std::string KeptText(const google::protobuf::RepeatedPtrField<v1::KeptWeight>& kept) {
  if (kept.empty()) return {};
  Rows rows = {{"kept weight", "source", "stored", "how", "exact"}};
  for (const v1::KeptWeight& weight : kept) {
    rows.push_back({Position(weight.tensor(), weight.row(), weight.column()),
                    fmt::format("{}", weight.source_value()),
                    fmt::format("{}", weight.stored_value()), std::string(NameOf(weight.how())),
                    IsExact(weight) ? "bit for bit" : "NO"});
  }
  return TableText(rows);
}

// Perplexity and divergence of a rounded model.
std::vector<std::string> QualityCells(const v1::RoundedModel& model) {
  return {fmt::format("{:.4g}", model.perplexity()), fmt::format("{:.4g}", model.kl())};
}

// One row per block, two columns per arm.
std::string ArmsText(const v1::EvaluationResult& result) {
  if (result.arms().empty()) return {};
  Rows rows = {{"block"}};
  std::map<int64_t, size_t> row_of;
  for (const v1::RoundedModel& arm : result.arms()) {
    const auto [at, added] = row_of.try_emplace(arm.block(), rows.size());
    if (added) {
      rows.push_back({arm.block() < 0 ? "whole tensor" : fmt::format("{}", arm.block())});
    }
    if (at->second == 1) {
      rows[0].push_back(arm.name());
      rows[0].emplace_back("divergence");
    }
    for (std::string& cell : QualityCells(arm)) rows[at->second].push_back(std::move(cell));
  }
  return TableText(rows);
}

std::string ActivationsText(const v1::EvaluationResult& result) {
  if (result.activations().empty()) return {};
  Rows rows = {{"activations", "perplexity", "divergence"},
               {"original", fmt::format("{:.4g}", result.perplexity()), "0"}};
  for (const v1::RoundedModel& model : result.activations()) {
    std::vector<std::string> row = {model.name()};
    for (std::string& cell : QualityCells(model)) row.push_back(std::move(cell));
    rows.push_back(std::move(row));
  }
  return TableText(rows);
}

std::string AwqText(const google::protobuf::RepeatedPtrField<v1::AwqScale>& scales) {
  if (scales.empty()) return {};
  Rows rows = {{"awq", "exponent", "scale", "median", "x median", "largest", "error"}};
  for (const v1::AwqScale& scale : scales) {
    rows.push_back({Position(scale.tensor(), scale.row(), scale.column()),
                    fmt::format("{:.2f}", scale.exponent()), fmt::format("{:.4g}", scale.scale()),
                    fmt::format("{:.4g}", scale.median_scale()),
                    fmt::format("{:.3g}", scale.scale() / scale.median_scale()),
                    fmt::format("{:.4g}", scale.largest_scale()),
                    fmt::format("{:.3f}", scale.error_ratio())});
  }
  return TableText(rows);
}

std::string SizesText(uint64_t bytes_in, uint64_t bytes_out) {
  const double ratio = bytes_out == 0 ? 0 : static_cast<double>(bytes_in) / bytes_out;
  return fmt::format("size            {} -> {} ({:.2f} times smaller)\n", SizeText(bytes_in),
                     SizeText(bytes_out), ratio);
}

std::string GroupText(int64_t group_size) {
  return group_size < 0 ? "one scale per channel"
                        : fmt::format("one scale per {} elements", group_size);
}

}  // namespace

std::string TableText(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool left = i == 0 || i + 1 == row.size();
      text += left ? fmt::format("  {:<{}}", row[i], widths[i])
                   : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string CapabilitiesText(const v1::GetCapabilitiesResponse& c) {
  const std::string libtorch = c.libtorch_version().empty()
                                   ? "without LibTorch: no forward pass can be run"
                                   : "with LibTorch " + c.libtorch_version();
  return fmt::format(
      "linchpin        {} {}\n"
      "families        {}\n"
      "schemes         {}\n"
      "scales          {}\n"
      "preserve        {}\n"
      "formats         {}\n"
      "uri schemes     {}\n"
      "limits          messages of {}, uploads of {}, chunks of {}\n",
      c.version(), libtorch, Joined(c.families()), Joined(c.schemes()), Joined(c.scale_rules()),
      Joined(c.preserve_modes()), Joined(c.formats()), Joined(c.uri_schemes()),
      SizeText(c.max_message_bytes()), SizeText(c.max_artifact_bytes()), SizeText(c.chunk_bytes()));
}

// What a tensor of a plan becomes, in words.
std::string BecomesText(const v1::TensorPlan& tensor) {
  if (!tensor.quantized()) return "as it is: " + tensor.kept_because();
  if (tensor.scale() == v1::SCALE_RULE_UNSPECIFIED) return std::string(NameOf(tensor.scheme()));
  return fmt::format("{}{}, {} per scale, {}", NameOf(tensor.scheme()),
                     tensor.asymmetric() ? " asymmetric" : "", tensor.group_size(),
                     NameOf(tensor.scale()));
}

std::string PlanText(const v1::PlanCompressionResponse& plan) {
  Rows rows = {{"tensor", "in", "out", "becomes"}};
  for (const v1::TensorPlan& tensor : plan.tensors()) {
    rows.push_back({tensor.name(), SizeText(tensor.bytes_in()), SizeText(tensor.bytes_out()),
                    BecomesText(tensor)});
  }
  return TableText(rows) + SizesText(plan.bytes_in(), plan.bytes_out()) + NotesText(plan.notes()) +
         fmt::format("groups          {}\nmemory          {}\n", GroupText(plan.group_size()),
                     SizeText(plan.memory_bytes()));
}

std::string DetectionText(const v1::Detection& detection) {
  std::string text = fmt::format("verdict         {}: {}\n", NameOf(detection.verdict()),
                                 VerdictMeaning(detection.verdict())) +
                     ProofText(detection);
  text += NotesText(detection.notes());
  if (detection.prompts() > 0) {
    text += fmt::format("agreement       {:.2f} over {} prompts\n", detection.agreement(),
                        detection.prompts());
  }
  if (detection.weights_only()) return text + SuspectsText(detection.suspects());
  for (const v1::SuperExpert& expert : detection.super_experts()) {
    text += fmt::format("super expert    layer {} expert {}, output {:.5g}\n", expert.layer(),
                        expert.expert(), expert.output());
  }
  if (detection.super_weights().empty()) return text + "super weights   none\n";
  const bool judged_by_kl = detection.judged_by_kl();
  Rows rows = {{"super weight", "layer", "row", "column", "value", "share",
                judged_by_kl ? "divergence" : "zeroed", "class"}};
  for (const v1::SuperWeight& weight : detection.super_weights()) {
    rows.push_back({weight.tensor(), std::to_string(weight.layer()), std::to_string(weight.row()),
                    std::to_string(weight.column()), fmt::format("{}", weight.value()),
                    fmt::format("{:.3f}", weight.share()), ZeroedText(weight, judged_by_kl),
                    std::string(NameOf(weight.weight_class()))});
  }
  return text + TableText(rows);
}

std::string CompressionText(const v1::CompressionResult& result, const std::string& output) {
  std::string text = result.has_detection() ? DetectionText(result.detection()) : "";
  text += KeptText(result.kept()) + SizesText(result.bytes_in(), result.bytes_out()) +
          NotesText(result.notes());
  return text + fmt::format("manifest        sha256 {}\nwritten         {}\n",
                            result.manifest_sha256(), output);
}

std::string EvaluationText(const v1::EvaluationResult& result) {
  std::string text =
      fmt::format("loss            {:.4f} nats\nperplexity      {:.4f}\ntokens          {}\n",
                  result.loss(), result.perplexity(), CountText(result.tokens()));
  if (result.has_against()) {
    const v1::Comparison& against = result.against();
    text += fmt::format(
        "against         loss {:.4f} nats, perplexity {:.4f}\n"
        "divergence      {:.6f} nats per token from it\n",
        against.loss(), against.perplexity(), against.kl());
  }
  return text + NotesText(result.notes()) + ArmsText(result) + ActivationsText(result) +
         AwqText(result.awq());
}

std::string VerificationText(const v1::VerificationResult& result) {
  std::string text =
      fmt::format("{} {} files checked\n", result.matches() ? "matches        " : "DOES NOT MATCH ",
                  result.files());
  for (const std::string& mismatch : result.mismatches()) text += "  " + mismatch + "\n";
  return text + KeptText(result.kept());
}

}  // namespace linchpin
