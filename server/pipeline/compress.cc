#include "pipeline/compress.h"

#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "artifact/compressed_tensors.h"
#include "artifact/digest.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"
#include "pipeline/calibration.h"

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

std::optional<CalibrationRecord> RecordOf(const std::optional<Calibration>& calibration) {
  if (!calibration) return std::nullopt;
  return CalibrationRecord{calibration->origin(), calibration->tokens()};
}

// Digests the source beside the detection, which leaves the disk mostly idle.
// Silent: progress is the detection's to report.
class BackgroundDigest {
 public:
  BackgroundDigest(const Checkpoint& checkpoint, const RunContext& context) {
    const RunContext silent{stop_.get_token(), nullptr, 1};
    result_ = std::async(std::launch::async,
                         [&checkpoint, silent] { return DigestCheckpoint(checkpoint, silent); });
    on_stop_.emplace(context.stop, [this] { stop_.request_stop(); });
  }
  ~BackgroundDigest() { stop_.request_stop(); }  // the future's destructor waits

  absl::StatusOr<std::vector<FileRecord>> Take() { return result_.get(); }

 private:
  std::stop_source stop_;
  std::future<absl::StatusOr<std::vector<FileRecord>>> result_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;
};

}  // namespace

absl::StatusOr<CompressResult> Compress(const Storage& source_storage, std::string_view source,
                                        const Storage& output_storage, std::string_view destination,
                                        const CompressOptions& options, const RunContext& context) {
  RETURN_IF_ERROR(CheckApart(source_storage, source, output_storage, destination));
  ASSIGN_OR_RETURN(const auto output,
                   output_storage.CreateDirectory(destination, options.overwrite));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source_storage, source));
  // What the options make impossible is refused before the long part.
  RETURN_IF_ERROR(MakePlan(checkpoint, options.quantize, {}).status());

  BackgroundDigest digest(checkpoint, context);
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  std::optional<Calibration> calibration;
  if (options.quantize.scale == ScaleRule::kImportance) {
    ASSIGN_OR_RETURN(calibration, Calibration::Start(checkpoint, pass, options.calibration));
  }
  ASSIGN_OR_RETURN(Detection detection, DetectIn(checkpoint, pass, options.detect, context,
                                                 calibration ? &*calibration : nullptr));
  const Importance importance = calibration ? calibration->Take() : Importance();
  ASSIGN_OR_RETURN(const Plan plan,
                   MakePlan(checkpoint, options.quantize, PinnedWeights(detection), &importance));
  ASSIGN_OR_RETURN(const ArtifactRecord artifact,
                   WriteCompressedTensors(checkpoint, plan, *output, context, &importance));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source_files, digest.Take());
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());

  CompressResult result;
  result.manifest = SerializeManifest(BuildManifest({.source_name = LastComponent(source),
                                                     .source_files = source_files,
                                                     .plan = &plan,
                                                     .detection = &detection,
                                                     .artifact = &artifact,
                                                     .kept = artifact.kept,
                                                     .calibration = RecordOf(calibration)}));
  RETURN_IF_ERROR(WriteText(*output, kManifestName, result.manifest));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output->Commit());
  result.manifest_sha256 = Sha256Hex(result.manifest);
  result.kept = artifact.kept;
  result.bytes_in = plan.bytes_in();
  result.bytes_out = plan.bytes_out();
  result.notes = plan.notes;
  result.detection = std::move(detection);
  return result;
}

absl::StatusOr<Plan> PlanCompression(const Storage& storage, std::string_view source,
                                     const QuantizeOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  RETURN_IF_ERROR(ForwardPass::Open(checkpoint, config).status());
  return MakePlan(checkpoint, options, {});
}

}  // namespace linchpin
