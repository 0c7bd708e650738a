#include "storage/storage.h"

#include <filesystem>

#include <algorithm>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/copy_bytes.h"
#include "storage/relative_name.h"

namespace linchpin {
std::string Storage::Canonical(std::string_view path) const {
  std::string normal = std::filesystem::path(path).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

absl::Status Storage::RemoveDirectory(std::string_view path) const {
  return Error(Reason::kFeatureUnsupported, path, "its store is only read",
               "name a place that can be written to");
}

absl::Status OutputDirectory::TakeFile(std::string_view name, const ReadableFile& from,
                                       const RunContext& context) {
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> to, CreateFile(name, from.size()));
  return CopyBytes(from, *to, context);
}

absl::Status OutputDirectory::Note(std::string_view /*text*/) { return absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<OutputDirectory>> Storage::ResumeDirectory(
    std::string_view path, bool overwrite, std::string_view /*key*/) const {
  return CreateDirectory(path, overwrite);
}

std::unique_ptr<Storage> Storage::UntilStopped(const std::stop_token&) const { return nullptr; }

absl::StatusOr<std::string> ReadText(const Storage& storage, std::string_view path,
                                     uint64_t limit) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, storage.Open(path));
  if (file->size() > limit) {
    return Error(
        Reason::kHeaderInvalid, path,
        fmt::format("{} bytes, more than the {} that this file may have", file->size(), limit));
  }
  std::string text(file->size(), '\0');
  RETURN_IF_ERROR(
      file->ReadAt(0, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size())));
  return text;
}

absl::Status CheckRelativeName(std::string_view name) {
  const auto refuse = [&] {
    return Error(Reason::kPathNotAllowed, name, "not a plain relative file name");
  };
  if (name.empty() || name.find('\0') != std::string_view::npos) return refuse();
  for (size_t start = 0; start <= name.size();) {
    const size_t end = std::min(name.find('/', start), name.size());
    const std::string_view part = name.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return refuse();
    start = end + 1;
  }
  return absl::OkStatus();
}

}  // namespace linchpin
