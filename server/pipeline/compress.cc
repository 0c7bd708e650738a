#include "pipeline/compress.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>
#include <utility>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_difference.h"
#include "checkpoint/gguf_template.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"
#include "pipeline/background_digest.h"
#include "pipeline/prepare.h"

namespace linchpin {
namespace {

bool LiesIn(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory == "/" ? "/" : directory + "/");
}

// A destination at, in or around the source would write to it, or replace it.
absl::Status CheckApart(const Storage& source_storage, std::string_view source,
                        const Storage& output_storage, std::string_view destination) {
  if (&source_storage != &output_storage) return absl::OkStatus();
  const std::string from = source_storage.Canonical(source);
  const std::string to = output_storage.Canonical(destination);
  if (!LiesIn(to, from) && !LiesIn(from, to)) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, destination,
               "it is, holds or lies inside the source, which is only read",
               "choose a destination elsewhere");
}

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

// What a GGUF output follows: the source itself where it is a GGUF file, else the
// donor, else what is made from the source's config and tokenizer.
class Pattern {
 public:
  absl::Status Open(const Storage& storage, const Checkpoint& source,
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

  // Where metadata and tokenizer are from, unless they are the source's own.
  std::vector<std::string> Notes() const {
    if (!donor_) return template_ ? template_->notes() : std::vector<std::string>();
    return {fmt::format("metadata and tokenizer are those of {}", LastComponent(donor_->path()))};
  }
  const GgufTemplate* get() const { return template_ ? &*template_ : nullptr; }

 private:
  std::optional<Checkpoint> donor_;
  std::optional<GgufTemplate> template_;
};

}  // namespace

std::string LastComponent(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

absl::Status WriteText(OutputDirectory& output, std::string_view name, const std::string& text) {
  ASSIGN_OR_RETURN(const auto file, output.CreateFile(name, text.size()));
  return file->WriteAt(
      0, absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

absl::StatusOr<CompressResult> Compress(const Storage& source_storage, std::string_view source,
                                        const Storage& output_storage, std::string_view destination,
                                        const CompressOptions& options, const RunContext& context) {
  RETURN_IF_ERROR(CheckApart(source_storage, source, output_storage, destination));
  ASSIGN_OR_RETURN(const auto output,
                   output_storage.CreateDirectory(destination, options.overwrite));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source_storage, source));
  // What the options make impossible is refused before the long part.
  Pattern pattern;
  RETURN_IF_ERROR(pattern.Open(source_storage, checkpoint, options.quantize));
  RETURN_IF_ERROR(MakePlan(checkpoint, options.quantize, {}, nullptr, pattern.get()).status());

  BackgroundDigest digest(context, [&checkpoint](const RunContext& silent) {
    return DigestCheckpoint(checkpoint, silent);
  });
  ASSIGN_OR_RETURN(Prepared prepared, Prepare(checkpoint, options, context));
  ASSIGN_OR_RETURN(Plan plan,
                   MakePlan(checkpoint, options.quantize, PinnedWeights(prepared.detection),
                            &prepared.importance, pattern.get()));
  for (std::string& note : pattern.Notes()) plan.notes.push_back(std::move(note));
  ASSIGN_OR_RETURN(
      const ArtifactRecord artifact,
      WriteArtifact(checkpoint, plan, *output, context, &prepared.importance, pattern.get()));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source_files, digest.Take());
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());

  CompressResult result;
  result.manifest = SerializeManifest(BuildManifest({.source_name = LastComponent(source),
                                                     .source_files = source_files,
                                                     .plan = &plan,
                                                     .detection = &prepared.detection,
                                                     .artifact = &artifact,
                                                     .kept = artifact.kept,
                                                     .calibration = prepared.calibration}));
  RETURN_IF_ERROR(WriteText(*output, kManifestName, result.manifest));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output->Commit());
  result.manifest_sha256 = Sha256Hex(result.manifest);
  result.kept = artifact.kept;
  result.bytes_in = plan.bytes_in();
  result.bytes_out = plan.bytes_out();
  result.notes = plan.notes;
  result.notes.insert(result.notes.end(), artifact.notes.begin(), artifact.notes.end());
  result.detection = std::move(prepared.detection);
  return result;
}

absl::StatusOr<Plan> PlanCompression(const Storage& storage, std::string_view source,
                                     const QuantizeOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  RETURN_IF_ERROR(ForwardPass::Open(checkpoint, config).status());
  Pattern pattern;
  RETURN_IF_ERROR(pattern.Open(storage, checkpoint, options));
  return MakePlan(checkpoint, options, {}, nullptr, pattern.get());
}

}  // namespace linchpin
