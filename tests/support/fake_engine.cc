#include "tests/support/fake_engine.h"

#include <chrono>
#include <stdexcept>
#include <utility>

#include "tests/support/patience.h"

namespace linchpin {
namespace {

absl::Status CopyFiles(const Storage& from, const std::string& source, OutputDirectory& output) {
  ASSIGN_OR_RETURN(const std::vector<FileEntry> files, from.List(source));
  for (const FileEntry& file : files) {
    ASSIGN_OR_RETURN(const auto input, from.Open(source + "/" + file.name));
    std::vector<std::byte> bytes(file.size);
    RETURN_IF_ERROR(input->ReadAt(0, absl::MakeSpan(bytes)));
    ASSIGN_OR_RETURN(const auto copy, output.CreateFile("copy-of-" + file.name, file.size));
    RETURN_IF_ERROR(copy->WriteAt(0, bytes));
  }
  return output.Commit();
}

}  // namespace

Detection SampleDetection() {
  Detection detection;
  detection.verdict = Verdict::kSeveral;
  SuperWeight weight;
  weight.position = {"model.layers.1.mlp.down_proj.weight", 5, 7};
  weight.layer = 1;
  weight.value = -2.5F;
  weight.share = 0.75F;
  weight.weight_class = WeightClass::kCritical;
  detection.super_weights.push_back(weight);
  weight.position.column = 9;
  weight.weight_class = WeightClass::kInert;
  detection.super_weights.push_back(weight);
  detection.proof.emplace();
  detection.proof->baseline_perplexity = 25;
  detection.proof->alone = {{.perplexity_ratio = 5.5, .kl = 1.5}, {.perplexity_ratio = 1.25}};
  detection.proof->joint = ProofArm{.perplexity_ratio = 100, .kl = 4.5};
  return detection;
}

FakeEngine::FakeEngine() {
  engine_.version = "0.0.0-test";
  engine_.libtorch_version = [] { return "none"; };
  engine_.families = {"llama"};
  engine_.detection_json = [](const Detection&) { return R"({"fake":true})"; };
  engine_.survey = [this](const Storage&, const std::string& source, int,
                          const TokenLoad&) -> absl::StatusOr<SourceSurvey> {
    std::lock_guard lock(mutex_);
    if (!error_.ok()) return error_;
    const auto own = fingerprints_.find(source);
    return SourceSurvey{.memory_bytes = memory_,
                        .set = {.threads = 2},
                        .source_bytes = source_bytes_,
                        .fingerprint = own == fingerprints_.end() ? "fingerprint" : own->second,
                        .shards = {"model.safetensors"}};
  };
  engine_.plan = [](const Storage&, const std::string&,
                    const CompressOptions& options) -> absl::StatusOr<Plan> {
    Plan plan{.options = options.quantize, .group_size = 64};
    PlanRow row;
    row.source.info = {"model.layers.0.mlp.up_proj.weight", DType::kBF16, {8, 64}};
    row.quantized = true;
    row.group_size = 64;
    plan.rows = {row};
    return plan;
  };
  engine_.detect = [this](const Storage&, const std::string&, const DetectRequest&,
                          const RunContext& context) -> absl::StatusOr<Detection> {
    RETURN_IF_ERROR(Work(context));
    return SampleDetection();
  };
  engine_.evaluate = [this](const Storage&, const std::string&, const EvaluateRequest& request,
                            const RunContext& context) -> absl::StatusOr<Evaluation> {
    RETURN_IF_ERROR(Work(context));
    Evaluation evaluation{
        .loss = 2, .perplexity = 7.389, .tokens = static_cast<int64_t>(request.tokens.ids.size())};
    if (!request.against.empty()) evaluation.against = {1.5, 4.4817, 0.25};
    return evaluation;
  };
  engine_.prepare = [this](const Storage&, const ShardJob&, const CompressOptions&,
                           const RunContext& context) -> absl::StatusOr<PreparedJob> {
    RETURN_IF_ERROR(Work(context));
    return PreparedJob{SampleDetection(), std::string(64, 'f')};
  };
  engine_.compress_shard = [this](const Storage&, const ShardJob&, int index,
                                  const RunContext& context) -> absl::StatusOr<ShardResult> {
    RETURN_IF_ERROR(Work(context));
    return ShardResult{.skipped = index == 1, .bytes_in = 400, .bytes_out = 100, .sha256 = "ab"};
  };
  engine_.finalize = [this](const Storage&, const ShardJob&, bool,
                            const RunContext& context) -> absl::StatusOr<CompressResult> {
    RETURN_IF_ERROR(Work(context));
    CompressResult result;
    result.manifest = "{}\n";
    return result;
  };
  engine_.verify = [this](const Storage&, const std::string&,
                          const RunContext& context) -> absl::StatusOr<VerifyReport> {
    RETURN_IF_ERROR(Work(context));
    return VerifyReport{.mismatches = {"config.json: its SHA-256 differs"}, .files = 3};
  };
  engine_.write_demo_model = [this](const Storage&,
                                    const std::string&) -> absl::StatusOr<uint64_t> {
    RETURN_IF_ERROR(Work({}));
    return 4096;
  };
  engine_.compress = [this](const auto&... arguments) { return Compress(arguments...); };
}

absl::StatusOr<CompressResult> FakeEngine::Compress(
    const Storage& source_storage, const std::string& source, const Storage& output_storage,
    const std::string& destination, const CompressOptions& options, const RunContext& context) {
  {
    std::lock_guard lock(mutex_);
    options_ = options;
  }
  ASSIGN_OR_RETURN(const auto output,
                   output_storage.CreateDirectory(destination, options.overwrite));
  RETURN_IF_ERROR(Work(context));
  RETURN_IF_ERROR(CopyFiles(source_storage, source, *output));
  CompressResult result;
  result.detection = SampleDetection();
  result.kept = {{.weight = {{"model.layers.1.mlp.down_proj.weight", 5, 7}, -2.5F},
                  .stored_value = -2.5F,
                  .how = "tensor",
                  .exact = true}};
  result.bytes_in = 400;
  result.bytes_out = 100;
  result.notes = {"a note"};
  result.manifest = "{}\n";
  result.manifest_sha256 = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
  return result;
}

absl::Status FakeEngine::Work(const RunContext& context) {
  context.Report({Stage::kQuantize, "a tensor", 50, 100});
  if (context.observer != nullptr) {
    context.observer->OnStageDone(Stage::kQuantize, 0.5, 100, 25);
    context.observer->OnTensor(TensorAction::kQuantized);
  }
  std::unique_lock lock(mutex_);
  if (std::exchange(throw_, false)) throw std::runtime_error("thrown by a test");
  ++held_;
  changed_.notify_all();
  changed_.wait(lock, context.stop, [this] { return !hold_; });
  --held_;
  if (context.stop.stop_requested()) ++stopped_;
  RETURN_IF_ERROR(context.Check());
  return error_;
}

void FakeEngine::Hold() {
  std::lock_guard lock(mutex_);
  hold_ = true;
}

void FakeEngine::Release() {
  std::lock_guard lock(mutex_);
  hold_ = false;
  changed_.notify_all();
}

void FakeEngine::FailWith(absl::Status error) {
  std::lock_guard lock(mutex_);
  error_ = std::move(error);
}

void FakeEngine::ThrowOnce() {
  std::lock_guard lock(mutex_);
  throw_ = true;
}

void FakeEngine::set_memory(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  memory_ = bytes;
}

void FakeEngine::set_fingerprint(const std::string& source, const std::string& fingerprint) {
  std::lock_guard lock(mutex_);
  fingerprints_[source] = fingerprint;
}

void FakeEngine::set_source_bytes(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  source_bytes_ = bytes;
}

bool FakeEngine::WaitForHeld(int count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return held_ >= count; });
}

int FakeEngine::stopped() const {
  std::lock_guard lock(mutex_);
  return stopped_;
}

CompressOptions FakeEngine::last_options() const {
  std::lock_guard lock(mutex_);
  return options_;
}

}  // namespace linchpin
