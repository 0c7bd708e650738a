#include "storage/s3/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <map>
#include <vector>

#include "fmt/chrono.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

std::string Hex(const unsigned char* bytes, size_t count) {
  std::string hex;
  for (size_t i = 0; i < count; ++i) hex += fmt::format("{:02x}", bytes[i]);
  return hex;
}

absl::Span<const std::byte> BytesOf(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string Hmac(std::string_view key, std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  return {reinterpret_cast<const char*>(digest), size};
}

// Parameters sorted, each with its "=".
std::string CanonicalQuery(std::string_view query) {
  std::vector<std::string> parameters;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    std::string parameter(query.substr(0, end));
    if (parameter.find('=') == std::string::npos) parameter += '=';
    parameters.push_back(std::move(parameter));
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  const auto key = [](const std::string& text) {
    const size_t equals = text.find('=');
    return std::pair(text.substr(0, equals), text.substr(equals));
  };
  std::sort(parameters.begin(), parameters.end(),
            [&](const std::string& a, const std::string& b) { return key(a) < key(b); });
  return fmt::format("{}", fmt::join(parameters, "&"));
}

std::string Trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return std::string(text);
}

// Names in lower case, sorted.
std::map<std::string, std::string> CanonicalHeaders(const HttpRequest& request) {
  std::map<std::string, std::string> headers{{"host", request.url.authority}};
  for (const auto& [name, value] : request.headers) {
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    headers[lower] = Trimmed(value);
  }
  return headers;
}

}  // namespace

std::string PayloadHash(absl::Span<const std::byte> bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  return Hex(digest, size);
}

void SignV4(const AwsCredentials& credentials, const S3Dialect& dialect, std::string_view region,
            std::chrono::system_clock::time_point now, HttpRequest& request) {
  const std::tm utc = fmt::gmtime(std::chrono::system_clock::to_time_t(now));
  const std::string day = fmt::format("{:%Y%m%d}", utc);
  const std::string time = fmt::format("{:%Y%m%dT%H%M%SZ}", utc);
  const std::string payload = PayloadHash(request.body);
  const auto add = [&](std::string_view name, const std::string& value) {
    request.headers.emplace_back(fmt::format("{}{}", dialect.header_prefix, name), value);
  };
  add("content-sha256", payload);
  add("date", time);
  if (!credentials.session_token.empty()) add("security-token", credentials.session_token);

  std::string header_lines;
  std::vector<std::string> names;
  for (const auto& [name, value] : CanonicalHeaders(request)) {
    header_lines += fmt::format("{}:{}\n", name, value);
    names.push_back(name);
  }
  const std::string signed_names = fmt::format("{}", fmt::join(names, ";"));
  const std::string canonical = fmt::format(
      "{}\n{}\n{}\n{}\n{}\n{}", request.method, request.url.path.empty() ? "/" : request.url.path,
      CanonicalQuery(request.url.query), header_lines, signed_names, payload);
  const std::string place =
      fmt::format("{}/{}/{}/{}", day, region, dialect.service, dialect.terminator);
  const std::string to_sign = fmt::format("{}\n{}\n{}\n{}", dialect.algorithm, time, place,
                                          PayloadHash(BytesOf(canonical)));

  std::string key = Hmac(fmt::format("{}{}", dialect.key_prefix, credentials.secret_key), day);
  for (const std::string_view part : {region, dialect.service, dialect.terminator}) {
    key = Hmac(key, part);
  }
  const std::string signature = Hmac(key, to_sign);
  request.headers.emplace_back(
      "Authorization",
      fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", dialect.algorithm,
                  credentials.access_key, place, signed_names,
                  Hex(reinterpret_cast<const unsigned char*>(signature.data()), signature.size())));
}

}  // namespace linchpin
