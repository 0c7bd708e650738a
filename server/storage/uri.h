// The one parser for the URIs of models: whatever is opened, allowed, signed or
// sent is made from what this lets through, so that no two readings can differ.
//
//   file:///PATH               as it is: nothing is decoded
//   s3://BUCKET/KEY            the key as it is; gs:// likewise
//   https://HOST[:PORT]/PATH   the path in its percent-encoded form
//   hf://OWNER/MODEL[@REVISION][/FILE]
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace linchpin {

// A URI in its only spelling: no empty, "." or ".." component, no user, no
// fragment, host and scheme in lower case, no default port.
struct Uri {
  std::string scheme;
  std::string authority;  // bucket, owner or host[:port]; empty for file
  std::string path;       // "/a/b", or empty for the top
  std::string revision;   // hf only; empty for the default one
  std::string query;      // of requests only; ParseUri lets none through

  // The whole; WithoutQuery is for messages, as a query may hold a signature.
  std::string Text() const;
  std::string WithoutQuery() const;
  // scheme://authority: what credentials are bound to.
  std::string Origin() const;

  friend bool operator==(const Uri&, const Uri&) = default;
};

// True where `path` is a URI and not a path of the file system.
bool IsUri(std::string_view path);

// PATH_NOT_ALLOWED for anything that has more than one reading (encoded or
// plain dots, slashes and control characters, backslashes, a user, a query, a
// fragment), is not UTF-8, has no scheme of the table above or is longer than 2048 bytes.
absl::StatusOr<Uri> ParseUri(std::string_view text);

// What the Location of a redirect from `base` leads to: absolute or relative as
// in RFC 3986, http or https, a query allowed.  The errors of ParseUri.
absl::StatusOr<Uri> ResolveReference(const Uri& base, std::string_view location);

// An address of an operator's own: http or https, "http://minio:9000".  OPTION_INVALID.
absl::StatusOr<Uri> ParseEndpoint(std::string_view text);

// True if `uri` is `prefix` or lies below it, component by component.  A prefix
// without a revision covers all of them.
bool Covers(const Uri& prefix, const Uri& uri);
bool Covers(const std::vector<Uri>& prefixes, const Uri& uri);

// RFC 3986: all but letters, digits and "-._~" as %XX; '/' stays if `keep_slashes`.
std::string PercentEncode(std::string_view text, bool keep_slashes);

}  // namespace linchpin
