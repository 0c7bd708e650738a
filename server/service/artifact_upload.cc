#include "service/artifact_upload.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/relative_name.h"

namespace linchpin {
namespace {

constexpr size_t kMaxNameLength = 1024;

absl::Status StreamError(std::string_view what, std::string_view why) {
  return Error(Reason::kStreamInvalid, what, why,
               "send options, then each file as header, chunks and end, then finish");
}

// Names become paths below the upload's directory and nowhere else.
absl::Status CheckName(std::string_view name) {
  const auto refuse = [&](std::string_view why) {
    return Error(Reason::kPathNotAllowed, fmt::format("file \"{}\"", name.substr(0, 128)), why,
                 "give a plain name relative to the model directory");
  };
  if (name.empty() || name.size() > kMaxNameLength) return refuse("its name has no sound length");
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c >= 0x20 && c != 0x7f && c != '\\';
  });
  if (!plain) return refuse("its name has a backslash or a control character");
  return CheckRelativeName(name);
}

}  // namespace

absl::Status ArtifactUpload::Take(const v1::CompressArtifactRequest& message) {
  using Part = v1::CompressArtifactRequest;
  if (message.part_case() == Part::kOptions) return TakeOptions(message.options());
  if (!has_options_) return StreamError("stream", "its first message is not the options");
  switch (message.part_case()) {
    case Part::kFile:
      return TakeHeader(message.file());
    case Part::kChunk:
      return TakeChunk(message.chunk());
    case Part::kEnd:
      return TakeEnd(message.end());
    case Part::kFinish:
      return TakeFinish();
    default:
      return StreamError("stream", "a message is empty or of a kind unknown here");
  }
}

absl::Status ArtifactUpload::TakeOptions(const v1::ArtifactOptions& options) {
  if (has_options_) return StreamError("stream", "it has options twice");
  has_options_ = true;
  options_ = options;
  return absl::OkStatus();
}

absl::Status ArtifactUpload::TakeHeader(const v1::FileHeader& header) {
  if (open_ != nullptr) return StreamError(open_->name, "another file begins before its end");
  RETURN_IF_ERROR(CheckName(header.name()));
  if (names_.size() >= kMaxFiles) {
    return StreamError("stream", fmt::format("it has more than {} files", kMaxFiles));
  }
  const uint64_t limit = run_.backend().max_artifact_bytes;
  if (header.size() > limit - bytes_) {
    return WithDetail(
        Error(
            Reason::kExceedsServerLimit, header.name(),
            fmt::format("with its {} bytes the upload has more than the {} that this server takes",
                        header.size(), limit),
            "use CompressModel with a path on the server, or raise --max-artifact-bytes"),
        "limit_bytes", std::to_string(limit));
  }
  if (!names_.insert(header.name()).second) return StreamError(header.name(), "it is sent twice");
  RETURN_IF_ERROR(run_.caller().CheckJobBytes(bytes_ + header.size()));
  RETURN_IF_ERROR(run_.Reserve(header.size(), room_));
  bytes_ += header.size();
  ASSIGN_OR_RETURN(auto data, place_.CreateFile(header.name(), header.size()));
  open_ = std::make_unique<OpenFile>();
  open_->name = header.name();
  open_->size = header.size();
  open_->data = std::move(data);
  return absl::OkStatus();
}

absl::Status ArtifactUpload::TakeChunk(const v1::FileChunk& chunk) {
  if (open_ == nullptr) return StreamError("stream", "a chunk comes without a file");
  const std::string& data = chunk.data();
  if (data.size() > kChunkBytes) {
    return StreamError(open_->name, fmt::format("a chunk has {} bytes and {} are the most",
                                                data.size(), kChunkBytes));
  }
  const uint64_t received = open_->received;
  if (chunk.offset() != received) {
    return StreamError(open_->name, fmt::format("a chunk is for byte {} and {} were received",
                                                chunk.offset(), received));
  }
  if (data.size() > open_->size - received) {
    return StreamError(open_->name,
                       fmt::format("it has more than the {} bytes announced", open_->size));
  }
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data.data()),
                                          data.size());
  RETURN_IF_ERROR(open_->data->WriteAt(received, bytes));
  open_->received += bytes.size();
  open_->digest.Update(bytes);
  return absl::OkStatus();
}

absl::Status ArtifactUpload::TakeEnd(const v1::FileEnd& end) {
  if (open_ == nullptr) return StreamError("stream", "an end comes without a file");
  if (open_->received != open_->size) {
    return StreamError(open_->name, fmt::format("it ends after {} of the {} bytes announced",
                                                open_->received, open_->size));
  }
  const std::string digest = open_->digest.Hex();
  if (digest != end.sha256()) {
    return Error(Reason::kDigestMismatch, open_->name,
                 fmt::format("what arrived has the SHA-256 {}", digest),
                 "send the file again, with its digest in lower-case hex");
  }
  files_.push_back({open_->name, open_->size, digest});
  open_.reset();
  return absl::OkStatus();
}

absl::Status ArtifactUpload::TakeFinish() {
  if (open_ != nullptr) return StreamError(open_->name, "the stream finishes before its end");
  RETURN_IF_ERROR(place_.Commit());
  finished_ = true;
  return absl::OkStatus();
}

}  // namespace linchpin
