#include "pipeline/output_pattern.h"

#include "base/status.h"
#include "checkpoint/config_difference.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "pipeline/compress.h"

namespace linchpin {
namespace {

// The donor's metadata will say how the source's weights are to be run.
absl::Status CheckSameModel(const Checkpoint& source, const Checkpoint& donor) {
  ASSIGN_OR_RETURN(const ModelConfig ours, ModelConfig::Parse("config.json", source.config_text()));
  ASSIGN_OR_RETURN(const ModelConfig theirs, ModelConfig::Parse(donor.path(), donor.config_text()));
  const auto difference = FirstDifference(ours, theirs);
  if (!difference) return absl::OkStatus();
  return Error(Reason::kConfigInvalid, donor.path(),
               fmt::format("its {} is {}, that of the source {}", difference->setting,
                           difference->theirs, difference->mine),
               "name a GGUF file of the same model");
}

}  // namespace

absl::Status OutputPattern::Open(const Storage& storage, const Checkpoint& source,
                                 const QuantizeOptions& options) {
  const std::string& donor = options.gguf_donor;
  if (options.format != Format::kGguf) return absl::OkStatus();
  if (!source.is_gguf() && donor.empty()) {
    ASSIGN_OR_RETURN(template_, GgufTemplate::Make(source));
    return absl::OkStatus();
  }
  if (!source.is_gguf()) {
    ASSIGN_OR_RETURN(donor_, Checkpoint::Open(storage, donor));
    if (!donor_->is_gguf()) {
      return Error(Reason::kFormatRefused, donor, "not a GGUF file", "name a .gguf file");
    }
    RETURN_IF_ERROR(CheckSameModel(source, *donor_));
  }
  ASSIGN_OR_RETURN(template_, GgufTemplate::Open(donor_ ? *donor_ : source));
  return absl::OkStatus();
}

std::vector<std::string> OutputPattern::Notes() const {
  if (!donor_) return template_ ? template_->notes() : std::vector<std::string>();
  return {fmt::format("metadata and tokenizer are those of {}", LastComponent(donor_->path()))};
}

}  // namespace linchpin
