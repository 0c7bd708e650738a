#include "storage/uri.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kMaxLength = 2048;
constexpr std::string_view kSeparator = "://";

enum class Authority { kNone, kName, kHost };
enum class PathKind { kPlain, kEncoded, kHub };

struct Scheme {
  std::string_view name;
  Authority authority;
  PathKind path;
  bool for_callers;  // http is for operators' endpoints only
};

constexpr std::array<Scheme, 6> kSchemes = {{
    {"file", Authority::kNone, PathKind::kPlain, true},
    {"s3", Authority::kName, PathKind::kPlain, true},
    {"gs", Authority::kName, PathKind::kPlain, true},
    {"https", Authority::kHost, PathKind::kEncoded, true},
    {"hf", Authority::kName, PathKind::kHub, true},
    {"http", Authority::kHost, PathKind::kEncoded, false},
}};

// A message must not repeat what may be a signature.
absl::Status Refuse(std::string_view text, std::string_view why) {
  return Error(Reason::kPathNotAllowed, text.substr(0, std::min(text.find('?'), kMaxLength)), why,
               "give a URI as documented");
}

bool IsLetterOrDigit(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool Consists(std::string_view text, std::string_view of) {
  return std::all_of(text.begin(), text.end(), [of](char c) {
    return IsLetterOrDigit(c) || of.find(c) != std::string_view::npos;
  });
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

bool IsPlainText(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t length = Utf8Length(text.substr(i));
    if (length == 0 || c < 0x20 || c == 0x7f || c == '\\') return false;
    i += length;
  }
  return true;
}

// Every "%XX" of it, unless it hides what a reader may take for structure.
bool IsWellEncoded(std::string_view text, bool may_hide) {
  for (size_t i = text.find('%'); i != std::string_view::npos; i = text.find('%', i + 3)) {
    if (i + 2 >= text.size() || std::isxdigit(static_cast<unsigned char>(text[i + 1])) == 0 ||
        std::isxdigit(static_cast<unsigned char>(text[i + 2])) == 0) {
      return false;
    }
    const int code = std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16);
    const bool hides =
        code < 0x20 || code == 0x7f || code == '.' || code == '/' || code == '\\' || code == '%';
    if (hides && !may_hide) return false;
  }
  return true;
}

// A host name or IPv4 address, or an IPv6 address in brackets, with or without a port.
absl::StatusOr<std::string> ParseHost(std::string_view text, std::string_view authority,
                                      std::string_view default_port) {
  std::string_view host = authority;
  std::string_view port;
  const size_t bracket = authority.find(']');
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
    if (port.empty() || port.size() > 5 || port.front() == '0' ||
        port.find_first_not_of("0123456789") != std::string_view::npos ||
        std::stoi(std::string(port)) > 65535) {
      return Refuse(text, "its port is not a number from 1 to 65535");
    }
  }
  const bool is_ip6 =
      host.size() > 2 && host.front() == '[' && host.back() == ']' &&
      host.substr(1, host.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.") ==
          std::string_view::npos;
  const bool is_name = !host.empty() && host.size() <= 253 && IsLetterOrDigit(host.front()) &&
                       IsLetterOrDigit(host.back()) && Consists(host, ".-") &&
                       host.find("..") == std::string_view::npos;
  if (!is_ip6 && !is_name) return Refuse(text, "its host is not one");
  if (port.empty() || port == default_port) return Lower(host);
  return fmt::format("{}:{}", Lower(host), port);
}

absl::Status CheckName(std::string_view text, std::string_view name, std::string_view what) {
  if (!name.empty() && name.size() <= 255 && IsLetterOrDigit(name.front()) &&
      Consists(name, "-._") && name.find("..") == std::string_view::npos) {
    return absl::OkStatus();
  }
  return Refuse(text, fmt::format("its {} is not one", what));
}

absl::Status CheckPath(std::string_view text, std::string_view path, bool encoded) {
  if (encoded && (!Consists(path, "/-._~!$&'()*+,;=:@%") || !IsWellEncoded(path, false))) {
    return Refuse(text, "its path is not in the form of RFC 3986, or hides dots and slashes");
  }
  for (size_t start = 1; start <= path.size() && !path.empty();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") {
      return Refuse(text, "its path has an empty component, '.' or '..'");
    }
    start = end + 1;
  }
  return absl::OkStatus();
}

// "/model@revision/file" -> "/model/file" and "revision".
absl::Status SplitRevision(std::string_view text, Uri& uri) {
  if (uri.path.empty()) return absl::OkStatus();
  const size_t end = std::min(uri.path.find('/', 1), uri.path.size());
  const std::string model = uri.path.substr(1, end - 1);
  const size_t at = model.find('@');
  RETURN_IF_ERROR(CheckName(text, model.substr(0, at), "model"));
  if (at == std::string::npos) return absl::OkStatus();
  uri.revision = model.substr(at + 1);
  uri.path.erase(at + 1, model.size() - at);
  return CheckName(text, uri.revision, "revision");
}

const Scheme* FindScheme(std::string_view name) {
  for (const Scheme& scheme : kSchemes) {
    if (scheme.name == name) return &scheme;
  }
  return nullptr;
}

absl::StatusOr<Uri> ParseAs(const Scheme& scheme, std::string_view text, std::string_view rest) {
  Uri uri{.scheme = std::string(scheme.name)};
  const size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view authority = rest.substr(0, slash);
  uri.path = rest.substr(slash);
  if (uri.path.ends_with('/')) uri.path.pop_back();
  RETURN_IF_ERROR(CheckPath(text, uri.path, scheme.path == PathKind::kEncoded));
  switch (scheme.authority) {
    case Authority::kNone:
      if (!authority.empty()) return Refuse(text, "it names a host");
      break;
    case Authority::kName:
      RETURN_IF_ERROR(
          CheckName(text, authority, scheme.path == PathKind::kHub ? "owner" : "bucket"));
      uri.authority = authority;
      break;
    case Authority::kHost: {
      ASSIGN_OR_RETURN(uri.authority,
                       ParseHost(text, authority, scheme.name == "http" ? "80" : "443"));
      break;
    }
  }
  if (scheme.path == PathKind::kHub) RETURN_IF_ERROR(SplitRevision(text, uri));
  return uri;
}

absl::StatusOr<Uri> Parse(std::string_view text, bool from_caller) {
  if (text.size() > kMaxLength) return Refuse("a URI", "longer than 2048 bytes");
  const size_t separator = text.find(kSeparator);
  if (separator == std::string_view::npos) return Refuse(text, "not a URI");
  if (!IsPlainText(text))
    return Refuse(text, "it holds a control character, a backslash or no UTF-8");
  const Scheme* const scheme = FindScheme(Lower(text.substr(0, separator)));
  if (scheme == nullptr || (from_caller && !scheme->for_callers)) {
    return Refuse(text, "its scheme is not one of file, s3, gs, https, hf");
  }
  return ParseAs(*scheme, text, text.substr(separator + kSeparator.size()));
}

}  // namespace

std::string Uri::WithoutQuery() const {
  if (revision.empty()) return fmt::format("{}://{}{}", scheme, authority, path);
  const size_t end = std::min(path.find('/', 1), path.size());
  return fmt::format("{}://{}{}@{}{}", scheme, authority, path.substr(0, end), revision,
                     path.substr(end));
}

std::string Uri::Text() const {
  return query.empty() ? WithoutQuery() : fmt::format("{}?{}", WithoutQuery(), query);
}

std::string Uri::Origin() const { return fmt::format("{}://{}", scheme, authority); }

bool IsUri(std::string_view path) { return path.find(kSeparator) != std::string_view::npos; }

absl::StatusOr<Uri> ParseUri(std::string_view text) { return Parse(text, /*from_caller=*/true); }

absl::StatusOr<Uri> ResolveReference(const Uri& base, std::string_view location) {
  location = location.substr(0, location.find('#'));
  const size_t mark = std::min(location.find('?'), location.size());
  std::string_view query = location.substr(mark);
  const std::string_view target = location.substr(0, mark);
  std::string absolute(target);
  if (target.starts_with("//")) {
    absolute = fmt::format("{}:{}", base.scheme, target);
  } else if (target.starts_with('/')) {
    absolute = base.Origin() + absolute;
  } else if (!IsUri(target)) {
    const size_t directory = base.path.empty() ? 0 : base.path.rfind('/');
    absolute = fmt::format("{}{}/{}", base.Origin(), base.path.substr(0, directory), target);
  }
  ASSIGN_OR_RETURN(Uri uri, Parse(absolute, /*from_caller=*/false));
  if (uri.scheme != "https" && uri.scheme != "http") {
    return Refuse(absolute, "a redirect to another scheme");
  }
  if (!query.empty()) query.remove_prefix(1);
  if (query.size() > 16'384 || !Consists(query, "/-._~!$&'()*+,;=:@%?") ||
      !IsWellEncoded(query, true)) {
    return Refuse(absolute, "the query of a redirect is not in the form of RFC 3986");
  }
  uri.query = query;
  return uri;
}

absl::StatusOr<Uri> ParseEndpoint(std::string_view text) {
  absl::StatusOr<Uri> uri = Parse(text, /*from_caller=*/false);
  if (uri.ok() && (uri->scheme == "http" || uri->scheme == "https")) return uri;
  return Error(Reason::kOptionInvalid, text, "not the address of a service",
               "give it as https://HOST[:PORT]");
}

bool Covers(const Uri& prefix, const Uri& uri) {
  if (prefix.scheme != uri.scheme || prefix.authority != uri.authority) return false;
  if (!prefix.revision.empty() && prefix.revision != uri.revision) return false;
  return uri.path == prefix.path || uri.path.starts_with(prefix.path + "/");
}

bool Covers(const std::vector<Uri>& prefixes, const Uri& uri) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&uri](const Uri& prefix) { return Covers(prefix, uri); });
}

std::string PercentEncode(std::string_view text, bool keep_slashes) {
  std::string encoded;
  for (const char c : text) {
    if (IsLetterOrDigit(c) || std::string_view("-._~").find(c) != std::string_view::npos ||
        (c == '/' && keep_slashes)) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace linchpin
