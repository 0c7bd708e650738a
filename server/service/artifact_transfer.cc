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
#include "service/job_source.h"
#include "service/request_key.h"
#include "service/transfer_place.h"
#include "storage/stoppable_storage.h"

namespace linchpin {
namespace {

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

// Digests on the way where `sha256` is empty.
absl::Status SendFile(ArtifactChannel& channel, const std::string& name, const ReadableFile& file,
                      const std::string& sha256) {
  v1::CompressArtifactResponse message;
  message.mutable_file()->set_name(name);
  message.mutable_file()->set_size(file.size());
  RETURN_IF_ERROR(channel.Write(message));
  Sha256 digest;
  for (uint64_t offset = 0; offset < file.size(); offset += kChunkBytes) {
    message.mutable_chunk()->set_offset(offset);
    std::string& data = *message.mutable_chunk()->mutable_data();
    data.resize(std::min<uint64_t>(kChunkBytes, file.size() - offset));
    const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(data.data()), data.size());
    RETURN_IF_ERROR(file.ReadAt(offset, bytes));
    if (sha256.empty()) digest.Update(bytes);
    RETURN_IF_ERROR(channel.Write(message));
  }
  message.mutable_end()->set_sha256(sha256.empty() ? digest.Hex() : sha256);
  return channel.Write(message);
}

// `known`: digests of what was written, which are those of what is sent.
absl::Status SendAll(ArtifactChannel& channel, const Storage& storage, const std::string& output,
                     const std::vector<FileRecord>& known) {
  ASSIGN_OR_RETURN(const std::vector<FileEntry> entries, storage.List(output));
  for (const FileEntry& entry : entries) {
    ASSIGN_OR_RETURN(const auto file, storage.Open(output + "/" + entry.name));
    RETURN_IF_ERROR(SendFile(channel, entry.name, *file, DigestIn(known, entry.name, entry.size)));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CompressArtifactResponse> Transfer(ArtifactChannel& channel, JobRun& run,
                                                      const TransferPlace& place) {
  const Backend& backend = run.backend();
  const StoppableStorage storage(place.storage(), run.stop_token());
  ASSIGN_OR_RETURN(const auto arriving, storage.CreateDirectory(place.source(), false));
  ArtifactUpload upload(run, *arriving, place.room());
  RETURN_IF_ERROR(Receive(channel, upload));
  channel.UploadDone();
  ASSIGN_OR_RETURN(CompressOptions options,
                   FromProto(upload.options().detection(), upload.options().quantization()));
  options.source_files = upload.files();
  ASSIGN_OR_RETURN(
      const SourceSurvey survey,
      backend.engine.survey(storage, place.source(), backend.threads, LoadOf(options)));
  // A donor lies where the server reaches it, and counts as what it holds.
  ASSIGN_OR_RETURN(const std::string quantization,
                   OptionsForKey(upload.options().quantization(), run));
  run.SetKey(
      KeyOfBytes(survey.fingerprint, CanonicalBytes(upload.options().detection()) + quantization));
  options.donor_storage = &run.storage();
  // The output, which is no larger than the input, lies beside it.
  RETURN_IF_ERROR(run.Reserve(survey.memory_bytes));
  RETURN_IF_ERROR(run.Reserve(upload.bytes(), place.room()));
  ASSIGN_OR_RETURN(const CompressResult result,
                   backend.engine.compress(storage, place.source(), storage, place.output(),
                                           options, run.Context()));
  run.CountCompression(result);
  channel.DownloadBegins();
  RETURN_IF_ERROR(SendAll(channel, storage, place.output(), result.files));
  v1::CompressArtifactResponse response;
  *response.mutable_result() = ToProto(result);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

}  // namespace

absl::StatusOr<v1::CompressArtifactResponse> TransferArtifact(ArtifactChannel& channel,
                                                              JobRun& run) {
  ASSIGN_OR_RETURN(const auto place, TransferPlace::Create(run.backend()));
  auto response = Transfer(channel, run, *place);
  if (!response.ok()) return place->ForCaller(response.status());
  return response;
}

}  // namespace linchpin
