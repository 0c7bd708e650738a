#include "client/commands.h"

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "client/amounts.h"
#include "client/calls.h"
#include "client/connection.h"
#include "client/errors.h"
#include "client/json_results.h"
#include "client/local_files.h"
#include "client/report.h"
#include "client/requests.h"
#include "client/shards.h"
#include "client/study_tables.h"
#include "client/tables.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

using Stub = v1::CompressionService::Stub;

struct Output {
  std::string text;  // for stdout
  int exit_code = kExitDone;
};

// A path as this command's server takes it.
std::string ServerPath(const CommandLine& line, const std::string& path) {
  return line.connection.endpoint.empty() ? ResolvedPath(path) : AbsolutePath(path);
}

grpc::Status MakeQuantization(const CommandLine& line, v1::QuantizationOptions& options) {
  const std::string& donor = line.quantization.gguf_donor;
  if (!donor.empty()) options.set_gguf_donor(ServerPath(line, donor));
  return MakeQuantizationOptions(line.quantization, options);
}

grpc::Status RunCapabilities(const CommandLine& line, const CallSettings& settings,
                             Output& output) {
  v1::GetCapabilitiesResponse response;
  const grpc::Status status =
      Call(settings, &Stub::GetCapabilities, v1::GetCapabilitiesRequest(), response);
  output.text = line.json ? CapabilitiesJson(response) : CapabilitiesText(response);
  return status;
}

grpc::Status RunDemoModel(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::CreateDemoModelRequest request;
  v1::CreateDemoModelResponse response;
  request.set_destination(ServerPath(line, line.output));
  const grpc::Status status = Call(settings, &Stub::CreateDemoModel, request, response);
  output.text = line.json ? DemoModelJson(response, request.destination())
                          : fmt::format("written         {} ({})\n", request.destination(),
                                        SizeText(static_cast<double>(response.bytes())));
  return status;
}

grpc::Status RunPlan(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::PlanCompressionRequest request;
  v1::PlanCompressionResponse response;
  request.set_source(ServerPath(line, line.model));
  if (!line.output.empty()) request.set_destination(ServerPath(line, line.output));
  grpc::Status status = MakeQuantization(line, *request.mutable_quantization());
  if (status.ok()) status = MakeDetectionOptions(line, *request.mutable_detection());
  request.set_max_memory_bytes(SizeIn(line.max_memory).value_or(0));
  if (status.ok()) status = Call(settings, &Stub::PlanCompression, request, response);
  output.text = line.json ? PlanJson(response) : PlanText(response);
  if (!status.ok() || line.job_file.empty()) return status;
  v1::CompressionJob job;
  job.set_source(request.source());
  job.set_destination(request.destination());
  *job.mutable_detection() = request.detection();
  *job.mutable_quantization() = request.quantization();
  job.set_job_key(response.job_key());
  job.set_shards(response.shards_size());
  return PrepareAndSaveJob(settings, line.job_file, std::move(job));
}

grpc::Status RunCompressShard(const CommandLine& line, const CallSettings& settings,
                              Output& output) {
  v1::CompressShardRequest request;
  v1::ShardResult result;
  request.set_index(line.shard);
  grpc::Status status = LoadJob(line.job_file, *request.mutable_job());
  if (status.ok()) status = CompressShard(settings, request, result);
  const std::string_view what = result.skipped() ? "was finished" : "done";
  output.text = line.json
                    ? ShardJson(result, line.shard)
                    : fmt::format("shard {}: {}, SHA-256 {}\n", line.shard, what, result.sha256());
  return status;
}

grpc::Status RunCompressShards(const CommandLine& line, const CallSettings& settings,
                               Output& output) {
  v1::CompressionJob job;
  ShardCounts counts;
  grpc::Status status = LoadJob(line.job_file, job);
  if (status.ok()) status = CompressShards(settings, job, line.workers, counts);
  output.text = line.json ? ShardCountsJson(counts.finished, counts.skipped)
                          : fmt::format("{} shards done, {} were finished\n", counts.finished,
                                        counts.skipped);
  return status;
}

grpc::Status RunFinalize(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::FinalizeCompressionRequest request;
  v1::CompressionResult result;
  request.set_overwrite(line.overwrite);
  grpc::Status status = LoadJob(line.job_file, *request.mutable_job());
  if (status.ok()) status = Finalize(settings, request, result);
  const std::string& destination = request.job().destination();
  output.text =
      line.json ? CompressionJson(result, destination) : CompressionText(result, destination);
  return status;
}

grpc::Status RunDetect(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::DetectSuperWeightsRequest request;
  v1::DetectionResult result;
  request.set_source(ServerPath(line, line.model));
  grpc::Status status = MakeDetectionOptions(line, *request.mutable_detection());
  if (status.ok()) status = Detect(settings, request, result);
  if (!status.ok()) return status;
  output.text = line.json ? DetectionJson(result)
                          : DetectionText(result.detection()) + StudyText(result.detection_json());
  return line.report_file.empty() ? status
                                  : WriteLocalFile(line.report_file, DetectionJson(result));
}

grpc::Status Compress(const CommandLine& line, const CallSettings& settings,
                      const std::string& destination, v1::CompressionResult& result) {
  v1::DetectionOptions detection;
  v1::QuantizationOptions quantization;
  grpc::Status status = MakeDetectionOptions(line, detection);
  if (status.ok()) status = MakeQuantization(line, quantization);
  if (!status.ok()) return status;
  if (line.upload) {
    v1::ArtifactOptions options;
    *options.mutable_detection() = std::move(detection);
    *options.mutable_quantization() = std::move(quantization);
    return CompressByUpload(settings, options, AbsolutePath(line.model), destination,
                            line.overwrite, result);
  }
  v1::CompressModelRequest request;
  request.set_source(ServerPath(line, line.model));
  request.set_destination(destination);
  *request.mutable_detection() = std::move(detection);
  *request.mutable_quantization() = std::move(quantization);
  request.set_overwrite(line.overwrite);
  request.set_max_memory_bytes(SizeIn(line.max_memory).value_or(0));
  return Compress(settings, request, result);
}

grpc::Status RunCompress(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::CompressionResult result;
  const std::string destination =
      line.upload ? AbsolutePath(line.output) : ServerPath(line, line.output);
  const grpc::Status status = Compress(line, settings, destination, result);
  if (!status.ok()) return status;
  output.text = line.json
                    ? CompressionJson(result, destination)
                    : StudyText(result.manifest_json()) + CompressionText(result, destination);
  return line.report_file.empty() ? status
                                  : WriteLocalFile(line.report_file, result.manifest_json());
}

grpc::Status RunEvaluate(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::EvaluateCompressionRequest request;
  v1::EvaluationResult result;
  request.set_source(ServerPath(line, line.model));
  if (!line.against.empty()) request.set_against(ServerPath(line, line.against));
  *request.mutable_windows() = MakeWindows(line.windows);
  grpc::Status status = MakeTokenSource(line.tokens, *request.mutable_tokens());
  if (status.ok()) status = MakeAnalyses(line, *request.mutable_analyses());
  if (status.ok()) status = Evaluate(settings, request, result);
  output.text = line.json ? EvaluationJson(result) : EvaluationText(result);
  return status;
}

grpc::Status RunVerify(const CommandLine& line, const CallSettings& settings, Output& output) {
  v1::VerifyArtifactRequest request;
  v1::VerificationResult result;
  request.set_directory(ServerPath(line, line.model));
  const grpc::Status status = Verify(settings, request, result);
  output.text = line.json ? VerificationJson(result) : VerificationText(result);
  output.exit_code = result.matches() ? kExitDone : kExitMismatch;
  return status;
}

grpc::Status Run(const CommandLine& line, const CallSettings& settings, Output& output) {
  struct Command {
    std::string_view name;
    grpc::Status (*run)(const CommandLine&, const CallSettings&, Output&);
  };
  constexpr Command kCommands[] = {{"capabilities", RunCapabilities},
                                   {"demo-model", RunDemoModel},
                                   {"plan", RunPlan},
                                   {"detect", RunDetect},
                                   {"compress", RunCompress},
                                   {"compress-shard", RunCompressShard},
                                   {"compress-shards", RunCompressShards},
                                   {"finalize", RunFinalize},
                                   {"evaluate", RunEvaluate},
                                   {"verify", RunVerify}};
  for (const Command& command : kCommands) {
    if (command.name == line.command) return command.run(line, settings, output);
  }
  return LocalError(grpc::StatusCode::INTERNAL, "INTERNAL", line.command, "has no function", "");
}

bool Print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  return std::fflush(stdout) == 0 && written;
}

int Fail(const grpc::Status& status, const Interrupts& interrupts, const std::string& where) {
  if (interrupts.signal() != 0) {
    std::fputs("error: interrupted: nothing was written [CANCELLED]\n", stderr);
    return 128 + interrupts.signal();
  }
  fmt::print(stderr, "{}\n", ErrorLine(status, where));
  return ExitCodeOf(status);
}

// Calls nobody: it reads what commands left behind.
int RunReport(const CommandLine& line, const Interrupts& interrupts) {
  const grpc::Status status = WriteReport(line.manifests, line.report_file);
  return status.ok() ? kExitDone : Fail(status, interrupts, "");
}

}  // namespace

int RunCommand(const CommandLine& line, Interrupts& interrupts) {
  if (line.command == "report") return RunReport(line, interrupts);
  std::unique_ptr<Connection> connection;
  Output output;
  grpc::Status status = Connection::Open(line.connection, interrupts, connection);
  if (!status.ok()) return Fail(status, interrupts, line.connection.endpoint);
  status = Run(line, {connection->stub(), interrupts, line.quiet}, output);
  const bool printed = status.ok() && Print(output.text);
  connection->EndServer();
  // The channel is left to the end of the process: closed before, it would wait
  // for gRPC's backup poller, up to ten seconds after a large upload.
  const std::string where = connection.release()->endpoint();
  if (!status.ok()) return Fail(status, interrupts, where);
  if (printed) return output.exit_code;
  std::fputs("error: stdout: cannot be written: the work itself is done [STORAGE_FAILED]\n",
             stderr);
  return kExitFailed;
}

}  // namespace linchpin
