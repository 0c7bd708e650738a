#include "storage/s3/s3_storage.h"

#include <algorithm>
#include <set>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "storage/s3/s3_output.h"

namespace linchpin {
namespace {

constexpr size_t kMaxListingEntries = 100'000;
constexpr int kSideBySide = 4;

absl::Status NotFound(std::string_view path) {
  return Error(Reason::kSourceNotFound, path, "no such file or directory", "check the URI");
}

// The directories below which something is still being put in place, with their slash.
std::set<std::string> Unfinished(const S3Listing& listing) {
  std::set<std::string> directories;
  for (const S3Page::Object& object : listing.objects) {
    if (object.key.ends_with("/" + std::string(kCommitMark))) {
      directories.insert(object.key.substr(0, object.key.size() - kCommitMark.size()));
    }
  }
  return directories;
}

}  // namespace

Uri Below(const Uri& directory, std::string_view name) {
  Uri uri = directory;
  uri.path += fmt::format("/{}", name);
  return uri;
}

bool IsHiddenKey(std::string_view name) {
  return name.starts_with('.') || name.find("/.") != std::string_view::npos;
}

std::unique_ptr<ReadableFile> OpenObject(const S3Client& client, const Uri& uri,
                                         const FileVersion& version,
                                         std::shared_ptr<BlockCache> cache) {
  const auto ask = [client, uri]() -> absl::StatusOr<FileVersion> {
    ASSIGN_OR_RETURN(const S3Object object, client.Head(uri));
    return object.version;
  };
  return std::make_unique<StoredObject>(client, uri, version, ask, std::move(cache));
}

absl::StatusOr<S3Listing> ListDirectory(const S3Client& client, const Uri& directory,
                                        Extent extent) {
  const std::string prefix = directory.path.empty() ? "" : directory.path.substr(1) + "/";
  S3Listing listing;
  std::string continuation;
  do {
    ASSIGN_OR_RETURN(S3Page page, client.List(directory, prefix, continuation));
    for (S3Page::Object& object : page.objects) {
      // A key that ends in a slash is how some tools mark a directory.
      if (!object.key.starts_with(prefix) || object.key.ends_with('/')) continue;
      object.key.erase(0, prefix.size());
      listing.committing = listing.committing || object.key == kCommitMark;
      listing.visible = listing.visible || !IsHiddenKey(object.key);
      listing.objects.push_back(std::move(object));
    }
    if (listing.objects.size() > kMaxListingEntries) {
      return Error(Reason::kStorageFailed, directory.Text(),
                   fmt::format("holds more than {} files", kMaxListingEntries),
                   "give a directory that holds the model alone");
    }
    continuation = std::move(page.next);
  } while (!continuation.empty() && (extent == Extent::kAll || !listing.visible));
  std::sort(listing.objects.begin(), listing.objects.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  return listing;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> S3Storage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(path));
  absl::StatusOr<S3Object> object = NotFound(path);
  if (!uri.path.empty()) object = client_.Head(uri);
  if (ReasonOf(object.status()) == Reason::kSourceNotFound) {
    RETURN_IF_ERROR(IsDirectory(path).status());
    return Error(Reason::kPathNotAllowed, path, "a directory, not a file");
  }
  RETURN_IF_ERROR(object.status());
  return OpenObject(client_, uri, object->version, cache_);
}

absl::StatusOr<std::vector<FileEntry>> S3Storage::List(std::string_view directory) const {
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(directory));
  ASSIGN_OR_RETURN(const S3Listing listing, ListDirectory(client_, uri));
  if (listing.committing || !listing.visible) return NotFound(directory);
  const std::set<std::string> unfinished = Unfinished(listing);
  std::vector<FileEntry> entries;
  for (const S3Page::Object& object : listing.objects) {
    const bool partial = std::any_of(unfinished.begin(), unfinished.end(), [&](const auto& place) {
      return object.key.starts_with(place);
    });
    if (!partial && !IsHiddenKey(object.key)) entries.push_back({object.key, object.size});
  }
  return entries;
}

absl::StatusOr<bool> S3Storage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(path));
  if (!uri.path.empty()) {
    const absl::Status status = client_.Head(uri).status();
    if (status.ok()) return false;
    if (ReasonOf(status) != Reason::kSourceNotFound) return status;
  }
  ASSIGN_OR_RETURN(const S3Listing listing, ListDirectory(client_, uri, Extent::kUntilVisible));
  if (listing.committing || !listing.visible) return NotFound(path);
  return true;
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> S3Storage::CreateDirectory(std::string_view path,
                                                                            bool overwrite) const {
  ASSIGN_OR_RETURN(Uri uri, ParseUri(path));
  if (uri.path.empty()) {
    return Error(Reason::kPathNotAllowed, path, "a bucket itself cannot be an output",
                 "name a directory in it");
  }
  return S3Output::Create(client_, std::move(uri), overwrite, cache_);
}

absl::Status S3Storage::RemoveDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(path));
  if (uri.path.empty()) {
    return Error(Reason::kPathNotAllowed, path, "a bucket itself cannot be removed",
                 "name a directory in it");
  }
  ASSIGN_OR_RETURN(const S3Listing listing, ListDirectory(client_, uri));
  if (listing.objects.empty()) return NotFound(path);
  return ForEachIndex(kSideBySide, listing.objects.size(),
                      [&](size_t i) { return client_.Delete(Below(uri, listing.objects[i].key)); });
}

std::unique_ptr<Storage> S3Storage::UntilStopped(const std::stop_token& stop) const {
  auto stopped = std::make_unique<S3Storage>(client_.Until(stop));
  stopped->cache_ = cache_;
  return stopped;
}

}  // namespace linchpin
