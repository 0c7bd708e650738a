#include "service/artifact_transfer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "artifact/digest.h"
#include "base/status.h"
#include "service/artifact_upload.h"
#include "service/conversion.h"
#include "service/request_key.h"
#include "storage/memory_storage.h"

namespace linchpin {
namespace {

constexpr char kSource[] = "model";
constexpr char kOutput[] = "output";

absl::Status Receive(ArtifactChannel& channel, ArtifactUpload& upload) {
  while (!upload.finished()) {
    ASSIGN_OR_RETURN(const auto message, channel.Read());
    if (!message) {
      return Error(Reason::kStreamInvalid, "stream", "it ended without finish",
                   "call again and send everything");
    }
    RETURN_IF_ERROR(upload.Take(*message));
  }
  return absl::OkStatus();
}

absl::Status SendFile(ArtifactChannel& channel, const std::string& name,
                      const std::vector<std::byte>& bytes) {
  v1::CompressArtifactResponse header;
  header.mutable_file()->set_name(name);
  header.mutable_file()->set_size(bytes.size());
  RETURN_IF_ERROR(channel.Write(std::move(header)));
  Sha256 digest;
  for (uint64_t offset = 0; offset < bytes.size(); offset += kChunkBytes) {
    const uint64_t size = std::min<uint64_t>(kChunkBytes, bytes.size() - offset);
    digest.Update({bytes.data() + offset, size});
    v1::CompressArtifactResponse chunk;
    chunk.mutable_chunk()->set_offset(offset);
    chunk.mutable_chunk()->set_data(bytes.data() + offset, size);
    RETURN_IF_ERROR(channel.Write(std::move(chunk)));
  }
  v1::CompressArtifactResponse end;
  end.mutable_end()->set_sha256(digest.Hex());
  return channel.Write(std::move(end));
}

absl::Status SendAll(ArtifactChannel& channel, MemoryStorage& storage) {
  ASSIGN_OR_RETURN(const std::vector<FileEntry> files, storage.List(kOutput));
  for (const FileEntry& file : files) {
    const std::string path = std::string(kOutput) + "/" + file.name;
    const MemoryStorage::Bytes bytes = storage.Get(path);
    if (bytes == nullptr) return Error(Reason::kInternal, file.name, "the output lost it");
    RETURN_IF_ERROR(SendFile(channel, file.name, *bytes));
    storage.Remove(path);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::CompressArtifactResponse> TransferArtifact(ArtifactChannel& channel,
                                                              JobRun& run) {
  const Backend& backend = run.backend();
  auto source = std::make_unique<MemoryStorage>();
  ArtifactUpload upload(run, *source, kSource);
  RETURN_IF_ERROR(Receive(channel, upload));
  channel.UploadDone();
  ASSIGN_OR_RETURN(const CompressOptions options,
                   FromProto(upload.options().detection(), upload.options().quantization()));
  ASSIGN_OR_RETURN(const SourceSurvey survey,
                   backend.engine.survey(*source, kSource, backend.threads, LoadOf(options)));
  run.SetKey(
      KeyOf(survey.fingerprint, upload.options().detection(), upload.options().quantization()));
  // The output, which is no larger than the input, lies in memory as well.
  RETURN_IF_ERROR(run.Reserve(survey.memory_bytes));
  RETURN_IF_ERROR(run.Reserve(upload.bytes()));
  MemoryStorage output;
  ASSIGN_OR_RETURN(
      const CompressResult result,
      backend.engine.compress(*source, kSource, output, kOutput, options, run.Context()));
  run.CountCompression(result);
  source.reset();
  channel.DownloadBegins();
  RETURN_IF_ERROR(SendAll(channel, output));
  v1::CompressArtifactResponse response;
  *response.mutable_result() = ToProto(result);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

}  // namespace linchpin
