#include "storage/http/https_storage.h"

#include "base/status.h"
#include "storage/http/remote_file.h"

namespace linchpin {

absl::StatusOr<HttpRequest> HttpsStorage::RequestFor(std::string_view path) const {
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(path));
  HttpRequest request{.url = uri, .what = std::string(path), .store = "https"};
  request.check_redirect = [prefixes = prefixes_, what = request.what](const Uri& target) {
    Uri place = target;
    place.query.clear();
    if (Covers(prefixes, place)) return absl::OkStatus();
    return Error(Reason::kPathNotAllowed, what,
                 "its server redirects to outside the prefixes that may be used",
                 "ask the operator to allow where it leads");
  };
  return request;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> HttpsStorage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(const HttpRequest request, RequestFor(path));
  return RemoteFile::Open(client_, request, cache_);
}

absl::StatusOr<std::vector<FileEntry>> HttpsStorage::List(std::string_view directory) const {
  return Error(Reason::kFeatureUnsupported, directory, "a web server does not list its files",
               "name the .safetensors or .gguf file itself");
}

absl::StatusOr<bool> HttpsStorage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const HttpRequest request, RequestFor(path));
  RETURN_IF_ERROR(RemoteFile::Probe(client_, request).status());
  return false;
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> HttpsStorage::CreateDirectory(
    std::string_view path, bool /*overwrite*/) const {
  return Error(Reason::kPathNotAllowed, path, "https is only read",
               "write to a directory, s3:// or gs://");
}

std::unique_ptr<Storage> HttpsStorage::UntilStopped(const std::stop_token& stop) const {
  auto stopped = std::make_unique<HttpsStorage>(client_.Until(stop), prefixes_);
  stopped->cache_ = cache_;
  return stopped;
}

}  // namespace linchpin
