#include "pipeline/compress.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"
#include "pipeline/background_digest.h"
#include "pipeline/output_pattern.h"
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

// A family that no pass runs is refused as such, whatever a plan would say.
absl::Status CheckFamily(const Checkpoint& checkpoint, const CompressOptions& options) {
  if (options.detect.skip) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  return ForwardPass::Open(checkpoint, config).status();
}

// What a person should know of the options, beside the plan's notes.
void AddNotes(const CompressOptions& options, const OutputPattern& pattern, Plan& plan) {
  if (options.detect.skip) NoteSkipped(plan);
  for (std::string& note : pattern.Notes()) plan.notes.push_back(std::move(note));
}

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
  RETURN_IF_ERROR(CheckSkipped(options));
  RETURN_IF_ERROR(CheckApart(source_storage, source, output_storage, destination));
  ASSIGN_OR_RETURN(const auto output,
                   output_storage.ResumeDirectory(destination, options.overwrite, options.key));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source_storage, source));
  // What the options make impossible is refused before the long part.
  RETURN_IF_ERROR(CheckFamily(checkpoint, options));
  OutputPattern pattern;
  RETURN_IF_ERROR(
      pattern.Open(options.donor_storage != nullptr ? *options.donor_storage : source_storage,
                   checkpoint, options.quantize));
  RETURN_IF_ERROR(MakePlan(checkpoint, options.quantize, {}, nullptr, pattern.get()).status());

  BackgroundDigest digest(context, [&](const RunContext& silent) {
    return options.source_digest ? DigestCheckpoint(checkpoint, silent, options.source_files)
                                 : ListCheckpoint(checkpoint);
  });
  ASSIGN_OR_RETURN(Prepared found, Prepare(checkpoint, options, context));
  const std::vector<PinnedWeight> super_weights =
      found.detection ? PinnedWeights(*found.detection) : std::vector<PinnedWeight>();
  ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint, options.quantize, super_weights,
                                       &found.importance, pattern.get()));
  AddNotes(options, pattern, plan);
  ASSIGN_OR_RETURN(const ArtifactRecord artifact, WriteArtifact(checkpoint, plan, *output, context,
                                                                &found.importance, pattern.get()));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source_files, digest.Take());
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());

  CompressResult result;
  result.manifest =
      SerializeManifest(BuildManifest({.source_name = LastComponent(source),
                                       .source_files = source_files,
                                       .plan = &plan,
                                       .detection = found.detection ? &*found.detection : nullptr,
                                       .artifact = &artifact,
                                       .kept = artifact.kept,
                                       .calibration = found.calibration}));
  RETURN_IF_ERROR(WriteText(*output, kManifestName, result.manifest));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output->Commit());
  result.manifest_sha256 = Sha256Hex(result.manifest);
  result.files = artifact.files;
  result.files.push_back(
      {std::string(kManifestName), result.manifest.size(), result.manifest_sha256});
  result.kept = artifact.kept;
  result.bytes_in = plan.bytes_in();
  result.bytes_out = plan.bytes_out();
  result.notes = plan.notes;
  result.notes.insert(result.notes.end(), artifact.notes.begin(), artifact.notes.end());
  result.detection = std::move(found.detection);
  return result;
}

absl::StatusOr<Plan> PlanCompression(const Storage& storage, std::string_view source,
                                     const CompressOptions& options) {
  RETURN_IF_ERROR(CheckSkipped(options));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  RETURN_IF_ERROR(CheckFamily(checkpoint, options));
  OutputPattern pattern;
  RETURN_IF_ERROR(pattern.Open(storage, checkpoint, options.quantize));
  ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint, options.quantize, {}, nullptr, pattern.get()));
  AddNotes(options, pattern, plan);
  return plan;
}

}  // namespace linchpin
