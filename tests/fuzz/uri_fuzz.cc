// The input is a URI of a caller, and where a redirect leads.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "storage/uri.h"
#include "tests/fuzz/invariant.h"

namespace {

void CheckPath(const linchpin::Uri& uri) {
  const std::string path = uri.path + "/";
  INVARIANT(path.front() == '/');
  INVARIANT(path.find("//") == std::string::npos);
  INVARIANT(path.find("/./") == std::string::npos && path.find("/../") == std::string::npos);
  INVARIANT(path.find('\\') == std::string::npos && path.find('\0') == std::string::npos);
  INVARIANT(uri.authority.find_first_of("@/\\% ") == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto uri = linchpin::ParseUri(text); uri.ok()) {
    CheckPath(*uri);
    INVARIANT(uri->query.empty() && uri->scheme != "http");
    const auto again = linchpin::ParseUri(uri->Text());
    INVARIANT(again.ok() && *again == *uri);
    INVARIANT(linchpin::Covers(*uri, *uri));
  }
  const linchpin::Uri base = {.scheme = "https", .authority = "host", .path = "/a/b"};
  if (const auto target = linchpin::ResolveReference(base, text); target.ok()) {
    CheckPath(*target);
    INVARIANT(target->scheme == "https" || target->scheme == "http");
  }
  return 0;
}
