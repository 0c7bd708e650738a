#include "storage/http/hub_storage.h"

#include <algorithm>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "storage/http/remote_file.h"
#include "storage/relative_name.h"

namespace linchpin {
namespace {

constexpr std::string_view kHubDomains[] = {".huggingface.co", ".hf.co"};
constexpr uint64_t kMaxListing = 64 << 20;
constexpr std::string_view kDefaultRevision = "main";

bool IsCommit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsHubDomain(const Uri& target) {
  return target.scheme == "https" &&
         std::any_of(std::begin(kHubDomains), std::end(kHubDomains),
                     [&](std::string_view domain) { return target.authority.ends_with(domain); });
}

absl::Status Malformed(const std::string& what, std::string_view why) {
  return Error(Reason::kStorageFailed, what, fmt::format("the hub's answer {}", why),
               "check that the configured hub is one");
}

bool IsHidden(std::string_view name) {
  return name.front() == '.' || name.find("/.") != std::string_view::npos;
}

absl::Status AddFile(const std::string& what, const Json& sibling, std::vector<FileEntry>& files) {
  const auto name = sibling.is_object() ? sibling.find("rfilename") : sibling.end();
  if (name == sibling.end() || !name->is_string())
    return Malformed(what, "has a file without a name");
  const auto size = sibling.find("size");
  const bool sized = size != sibling.end() && size->is_number_unsigned();
  FileEntry entry{name->get<std::string>(), sized ? size->get<uint64_t>() : 0};
  if (!CheckRelativeName(entry.name).ok())
    return Malformed(what, "has a file name that leads elsewhere");
  files.push_back(std::move(entry));
  return absl::OkStatus();
}

}  // namespace

HttpRequest HubStorage::RequestFor(const Place& place, std::string_view url_path) const {
  HttpRequest request{.url = options_.endpoint, .what = place.uri.Text(), .store = "hf"};
  request.url.path += url_path;
  request.any_address = options_.named;
  if (!options_.token.empty()) {
    request.authorize = [token = options_.token](HttpRequest& sent) {
      sent.headers.emplace_back("Authorization", "Bearer " + token);
      return absl::OkStatus();
    };
  }
  request.check_redirect = [endpoint = options_.endpoint, what = request.what](const Uri& target) {
    if (target.Origin() == endpoint.Origin() || IsHubDomain(target)) return absl::OkStatus();
    return Error(Reason::kPathNotAllowed, what, "the hub redirects to outside its own domains");
  };
  return request;
}

absl::StatusOr<std::shared_ptr<const HubStorage::Snapshot>> HubStorage::Resolve(
    const Place& place) const {
  const std::string revision =
      place.uri.revision.empty() ? std::string(kDefaultRevision) : place.uri.revision;
  const std::string key = place.model + "@" + revision;
  const std::lock_guard lock(mutex_);
  if (const auto known = snapshots_.find(key); known != snapshots_.end()) return known->second;
  HttpRequest request = RequestFor(place, fmt::format("/api/models/{}/revision/{}", place.model,
                                                      PercentEncode(revision, false)));
  request.url.query = "blobs=true";
  request.max_body = kMaxListing;
  ASSIGN_OR_RETURN(const HttpResponse response, client_.Send(request));
  if (!response.ok()) return ErrorOf(request, response);
  ASSIGN_OR_RETURN(const Json answer,
                   ParseJson(request.what, response.body, Reason::kStorageFailed));
  const auto snapshot = std::make_shared<Snapshot>();
  const auto sha = answer.is_object() ? answer.find("sha") : answer.end();
  if (sha == answer.end() || !sha->is_string() || !IsCommit(sha->get<std::string>())) {
    return Malformed(request.what, "names no commit");
  }
  snapshot->commit = sha->get<std::string>();
  const auto siblings = answer.find("siblings");
  if (siblings == answer.end() || !siblings->is_array())
    return Malformed(request.what, "lists no files");
  for (const Json& sibling : *siblings)
    RETURN_IF_ERROR(AddFile(request.what, sibling, snapshot->files));
  std::sort(snapshot->files.begin(), snapshot->files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  snapshots_[key] = snapshot;
  return snapshot;
}

absl::StatusOr<HubStorage::Place> HubStorage::Find(std::string_view path) const {
  Place place;
  ASSIGN_OR_RETURN(place.uri, ParseUri(path));
  if (place.uri.path.empty()) {
    return Error(Reason::kSourceNotFound, path, "names an owner and no model",
                 "give it as hf://OWNER/MODEL");
  }
  const size_t end = std::min(place.uri.path.find('/', 1), place.uri.path.size());
  place.model = place.uri.authority + place.uri.path.substr(0, end);
  place.file = place.uri.path.substr(std::min(end + 1, place.uri.path.size()));
  ASSIGN_OR_RETURN(place.snapshot, Resolve(place));
  return place;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> HubStorage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(const bool is_directory, IsDirectory(path));
  if (is_directory) return Error(Reason::kPathNotAllowed, path, "a directory, not a file");
  ASSIGN_OR_RETURN(const Place place, Find(path));
  const HttpRequest request =
      RequestFor(place, fmt::format("/{}/resolve/{}/{}", place.model, place.snapshot->commit,
                                    PercentEncode(place.file, true)));
  return RemoteFile::Open(client_, request, cache_);
}

absl::StatusOr<std::vector<FileEntry>> HubStorage::List(std::string_view directory) const {
  ASSIGN_OR_RETURN(const Place place, Find(directory));
  const std::string prefix = place.file.empty() ? "" : place.file + "/";
  std::vector<FileEntry> entries;
  bool found = false;
  for (const FileEntry& file : place.snapshot->files) {
    if (!file.name.starts_with(prefix)) continue;
    found = true;
    std::string name = file.name.substr(prefix.size());
    if (!IsHidden(name)) entries.push_back({std::move(name), file.size});
  }
  if (!found) return Error(Reason::kSourceNotFound, directory, "no such file or directory");
  return entries;
}

absl::StatusOr<bool> HubStorage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.file.empty()) return true;
  for (const FileEntry& file : place.snapshot->files) {
    if (file.name == place.file) return false;
    if (file.name.starts_with(place.file + "/")) return true;
  }
  return Error(Reason::kSourceNotFound, path, "no such file or directory");
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> HubStorage::CreateDirectory(
    std::string_view path, bool /*overwrite*/) const {
  return Error(Reason::kPathNotAllowed, path, "a hub is only read",
               "write to a directory, s3:// or gs://");
}

std::unique_ptr<Storage> HubStorage::UntilStopped(const std::stop_token& stop) const {
  auto stopped = std::make_unique<HubStorage>(client_.Until(stop), options_);
  stopped->cache_ = cache_;
  return stopped;
}

}  // namespace linchpin
