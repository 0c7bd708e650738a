#include "client/calls.h"

#include <memory>
#include <utility>
#include <vector>

#include "client/artifact_download.h"
#include "client/artifact_upload.h"
#include "client/errors.h"
#include "client/progress_bar.h"
#include "client/requests.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

using Stub = v1::CompressionService::Stub;

template <typename Request, typename Response>
using StreamMethod = std::unique_ptr<grpc::ClientReader<Response>> (Stub::*)(grpc::ClientContext*,
                                                                             const Request&);

grpc::Status CheckSize(const google::protobuf::Message& request) {
  if (request.ByteSizeLong() <= kMaxRequestBytes) return grpc::Status::OK;
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", "the request",
                    fmt::format("has {} bytes, more than the {} of one call",
                                request.ByteSizeLong(), kMaxRequestBytes),
                    "give less text or fewer tokens");
}

grpc::Status NoResult() {
  return LocalError(grpc::StatusCode::INTERNAL, "STREAM_INVALID", "the call",
                    "ended without a result", "look at the server's log");
}

template <typename Request, typename Response, typename Result>
grpc::Status CallStream(const CallSettings& settings, StreamMethod<Request, Response> method,
                        const Request& request, Result& result) {
  const grpc::Status size = CheckSize(request);
  if (!size.ok()) return size;
  grpc::ClientContext context;
  const Interrupts::Scope scope(settings.interrupts, context);
  ProgressBar bar(ProgressBar::StyleFor(stderr, settings.quiet), stderr);
  const auto reader = (settings.stub.*method)(&context, request);
  bool complete = false;
  for (Response response; reader->Read(&response);) {
    if (response.has_progress()) bar.Update(response.progress());
    if (response.has_result()) {
      complete = true;
      result = std::move(*response.mutable_result());
    }
  }
  grpc::Status status = reader->Finish();
  return status.ok() && !complete ? NoResult() : status;
}

using ArtifactStream =
    grpc::ClientReaderWriter<v1::CompressArtifactRequest, v1::CompressArtifactResponse>;

// Sends everything and shows how far it is.
grpc::Status SendDirectory(ArtifactStream& stream, const v1::ArtifactOptions& options,
                           const std::string& directory, ProgressBar& bar) {
  std::vector<UploadFile> files;
  grpc::Status status = ListUpload(directory, files);
  if (!status.ok()) return status;
  v1::Progress progress;
  progress.set_stage("upload");
  uint64_t total = 0;
  for (const UploadFile& file : files) total += file.size;
  progress.set_total_bytes(total);
  v1::CompressArtifactRequest first;
  *first.mutable_options() = options;
  if (!stream.Write(first)) return grpc::Status::OK;  // the stream's status tells why
  status = SendFiles(directory, files, [&](const v1::CompressArtifactRequest& part) {
    if (part.has_file()) progress.set_item(part.file().name());
    progress.set_done_bytes(progress.done_bytes() + part.chunk().data().size());
    bar.Update(progress);
    return stream.Write(part);
  });
  if (status.ok()) stream.WritesDone();
  return status;
}

grpc::Status TakePart(v1::CompressArtifactResponse& response, ArtifactDownload& download,
                      ProgressBar& bar, v1::CompressionResult& result) {
  if (response.has_progress()) bar.Update(response.progress());
  if (response.has_file()) return download.Take(response.file());
  if (response.has_chunk()) return download.Take(std::move(*response.mutable_chunk()));
  if (response.has_end()) return download.Take(response.end());
  if (response.has_result()) result = std::move(*response.mutable_result());
  return grpc::Status::OK;
}

grpc::Status ReceiveDirectory(ArtifactStream& stream, ArtifactDownload& download, ProgressBar& bar,
                              v1::CompressionResult& result) {
  bool complete = false;
  for (v1::CompressArtifactResponse response; stream.Read(&response);) {
    complete = complete || response.has_result();
    const grpc::Status status = TakePart(response, download, bar, result);
    if (!status.ok()) return status;
  }
  grpc::Status status = stream.Finish();
  return status.ok() && !complete ? NoResult() : status;
}

}  // namespace

grpc::Status Detect(const CallSettings& settings, const v1::DetectSuperWeightsRequest& request,
                    v1::DetectionResult& result) {
  return CallStream(settings, &Stub::DetectSuperWeights, request, result);
}

grpc::Status Evaluate(const CallSettings& settings, const v1::EvaluateCompressionRequest& request,
                      v1::EvaluationResult& result) {
  return CallStream(settings, &Stub::EvaluateCompression, request, result);
}

grpc::Status Compress(const CallSettings& settings, const v1::CompressModelRequest& request,
                      v1::CompressionResult& result) {
  return CallStream(settings, &Stub::CompressModel, request, result);
}

grpc::Status Prepare(const CallSettings& settings, const v1::PrepareCompressionRequest& request,
                     v1::PreparedCompression& result) {
  return CallStream(settings, &Stub::PrepareCompression, request, result);
}

grpc::Status CompressShard(const CallSettings& settings, const v1::CompressShardRequest& request,
                           v1::ShardResult& result) {
  return CallStream(settings, &Stub::CompressShard, request, result);
}

grpc::Status Finalize(const CallSettings& settings, const v1::FinalizeCompressionRequest& request,
                      v1::CompressionResult& result) {
  return CallStream(settings, &Stub::FinalizeCompression, request, result);
}

grpc::Status Verify(const CallSettings& settings, const v1::VerifyArtifactRequest& request,
                    v1::VerificationResult& result) {
  return CallStream(settings, &Stub::VerifyArtifact, request, result);
}

grpc::Status CompressByUpload(const CallSettings& settings, const v1::ArtifactOptions& options,
                              const std::string& directory, const std::string& output,
                              bool overwrite, v1::CompressionResult& result) {
  std::unique_ptr<ArtifactDownload> download;
  grpc::Status status = ArtifactDownload::Begin(output, overwrite, download);
  if (status.ok()) status = CheckSize(options);
  if (!status.ok()) return status;
  grpc::ClientContext context;
  const Interrupts::Scope scope(settings.interrupts, context);
  ProgressBar bar(ProgressBar::StyleFor(stderr, settings.quiet), stderr);
  const auto stream = settings.stub.CompressArtifact(&context);
  status = SendDirectory(*stream, options, directory, bar);
  if (status.ok()) status = ReceiveDirectory(*stream, *download, bar, result);
  if (!status.ok()) context.TryCancel();  // an error of ours; after one of theirs, nothing
  return status.ok() ? download->Commit() : status;
}

}  // namespace linchpin
