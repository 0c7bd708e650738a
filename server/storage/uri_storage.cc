#include "storage/uri_storage.h"

#include <set>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::string_view kLocal = "file";

absl::StatusOr<std::vector<Uri>> ParsePrefixes(const std::vector<std::string>& texts,
                                               const UriStorage::Stores& stores) {
  std::vector<Uri> prefixes;
  for (const std::string& text : texts) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    if (!uri.ok() || uri->scheme == kLocal || !stores.contains(uri->scheme)) {
      return Error(Reason::kOptionInvalid, fmt::format("prefix {}", text), "not a URI of a store",
                   "give it as s3://BUCKET/KEY, gs://BUCKET/KEY, https://HOST/PATH or hf://OWNER; "
                   "directories are given as roots");
    }
    prefixes.push_back(*uri);
  }
  return prefixes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UriStorage>> UriStorage::Create(Stores stores,
                                                               const UriPrefixes& prefixes) {
  ASSIGN_OR_RETURN(std::vector<Uri> read, ParsePrefixes(prefixes.read, stores));
  ASSIGN_OR_RETURN(std::vector<Uri> write, ParsePrefixes(prefixes.write, stores));
  read.insert(read.end(), write.begin(), write.end());
  return std::unique_ptr<UriStorage>(
      new UriStorage(std::move(stores), std::move(read), std::move(write)));
}

std::vector<std::string> UriStorage::schemes() const {
  std::set<std::string> schemes{std::string(kLocal)};
  for (const Uri& prefix : read_) schemes.insert(prefix.scheme);
  return {schemes.begin(), schemes.end()};
}

absl::StatusOr<UriStorage::Route> UriStorage::Find(std::string_view path,
                                                   const std::vector<Uri>& allowed) const {
  Uri uri{.scheme = std::string(kLocal), .path = std::string(path)};
  if (IsUri(path)) {
    ASSIGN_OR_RETURN(uri, ParseUri(path));
  }
  const auto store = stores_.find(uri.scheme);
  const bool is_local = uri.scheme == kLocal;
  if (store == stores_.end() || (!is_local && !Covers(allowed, uri))) {
    return Error(Reason::kPathNotAllowed, path, "outside the prefixes that may be used",
                 "choose a URI beneath a configured prefix");
  }
  return Route{store->second.get(), is_local ? uri.path : uri.Text()};
}

absl::StatusOr<std::unique_ptr<ReadableFile>> UriStorage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(const Route route, Find(path, read_));
  return route.store->Open(route.path);
}

absl::StatusOr<std::vector<FileEntry>> UriStorage::List(std::string_view directory) const {
  ASSIGN_OR_RETURN(const Route route, Find(directory, read_));
  return route.store->List(route.path);
}

absl::StatusOr<bool> UriStorage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Route route, Find(path, read_));
  return route.store->IsDirectory(route.path);
}

std::string UriStorage::Canonical(std::string_view path) const {
  const absl::StatusOr<Route> route = Find(path, read_);
  if (!route.ok()) return Storage::Canonical(path);
  return IsUri(route->path) ? route->path : route->store->Canonical(route->path);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> UriStorage::CreateDirectory(std::string_view path,
                                                                             bool overwrite) const {
  ASSIGN_OR_RETURN(const Route route, Find(path, write_));
  return route.store->CreateDirectory(route.path, overwrite);
}

absl::Status UriStorage::RemoveDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Route route, Find(path, write_));
  return route.store->RemoveDirectory(route.path);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> UriStorage::ResumeDirectory(
    std::string_view path, bool overwrite, std::string_view key) const {
  ASSIGN_OR_RETURN(const Route route, Find(path, write_));
  return route.store->ResumeDirectory(route.path, overwrite, key);
}

std::unique_ptr<Storage> UriStorage::UntilStopped(const std::stop_token& stop) const {
  Stores stores;
  for (const auto& [scheme, store] : stores_) {
    std::shared_ptr<const Storage> stopped = store->UntilStopped(stop);
    if (stopped == nullptr) stopped = store;
    stores.emplace(scheme, std::move(stopped));
  }
  return std::unique_ptr<Storage>(new UriStorage(std::move(stores), read_, write_));
}

}  // namespace linchpin
