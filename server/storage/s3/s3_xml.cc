#include "storage/s3/s3_xml.h"

#include <algorithm>
#include <cctype>
#include <ctime>

#include "fmt/format.h"
#include "pugixml.hpp"

namespace linchpin {
namespace {

// The root of a well-formed document with this name, or an empty node.
pugi::xml_node Root(pugi::xml_document& document, const std::string& xml, const char* name) {
  if (!document.load_buffer(xml.data(), xml.size())) return {};
  return document.child(name);
}

std::string Child(const pugi::xml_node& node, const char* name) {
  return node.child(name).text().get();
}

std::optional<std::string> Text(const pugi::xml_node& root, const char* name) {
  std::string text = Child(root, name);
  if (text.empty()) return std::nullopt;
  return text;
}

}  // namespace

std::optional<SystemTime> TimeOf(time_t seconds) {
  constexpr auto kMost = std::chrono::floor<std::chrono::seconds>(SystemTime::duration::max());
  if (seconds > kMost.count() || seconds < -kMost.count()) return std::nullopt;
  return std::chrono::system_clock::from_time_t(seconds);
}

std::optional<SystemTime> ParseIsoTime(const std::string& text) {
  std::tm utc = {};
  const char* const rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);
  if (rest == nullptr) return std::nullopt;
  return TimeOf(timegm(&utc));
}

std::optional<S3Page> ParseListing(const std::string& xml) {
  pugi::xml_document document;
  const pugi::xml_node root = Root(document, xml, "ListBucketResult");
  if (!root) return std::nullopt;
  S3Page page;
  for (const pugi::xml_node& contents : root.children("Contents")) {
    const std::string size = Child(contents, "Size");
    if (size.empty() || size.size() > 18 ||
        size.find_first_not_of("0123456789") != std::string::npos) {
      return std::nullopt;
    }
    const auto modified = ParseIsoTime(Child(contents, "LastModified"));
    page.objects.push_back(
        {Child(contents, "Key"), std::stoull(size), modified.value_or(SystemTime::max())});
    if (page.objects.back().key.empty()) return std::nullopt;
  }
  if (Child(root, "IsTruncated") == "true") {
    page.next = Child(root, "NextContinuationToken");
    if (page.next.empty()) return std::nullopt;
  }
  return page;
}

std::optional<std::string> ParseUploadId(const std::string& xml) {
  pugi::xml_document document;
  return Text(Root(document, xml, "InitiateMultipartUploadResult"), "UploadId");
}

std::optional<std::string> ParseCopiedETag(const std::string& xml) {
  for (const char* name : {"CopyObjectResult", "CopyPartResult"}) {
    pugi::xml_document document;
    if (auto etag = Text(Root(document, xml, name), "ETag")) return etag;
  }
  return std::nullopt;
}

bool IsCompletion(const std::string& xml) {
  pugi::xml_document document;
  return static_cast<bool>(Root(document, xml, "CompleteMultipartUploadResult"));
}

std::optional<AwsCredentials> ParseAssumedRole(const std::string& xml) {
  pugi::xml_document document;
  const pugi::xml_node node = Root(document, xml, "AssumeRoleWithWebIdentityResponse")
                                  .child("AssumeRoleWithWebIdentityResult")
                                  .child("Credentials");
  AwsCredentials credentials{Child(node, "AccessKeyId"), Child(node, "SecretAccessKey"),
                             Child(node, "SessionToken")};
  const auto expires = ParseIsoTime(Child(node, "Expiration"));
  if (credentials.access_key.empty() || credentials.secret_key.empty() || !expires) {
    return std::nullopt;
  }
  credentials.expires = *expires;
  return credentials;
}

std::string ErrorCodeOf(const std::string& xml) {
  pugi::xml_document document;
  std::string code = Child(Root(document, xml, "Error"), "Code");
  if (code.size() > 100) code.resize(100);
  code.erase(std::remove_if(code.begin(), code.end(),
                            [](unsigned char c) { return std::isalnum(c) == 0 && c != '.'; }),
             code.end());
  return code;
}

std::string CompletionXml(const std::vector<std::string>& etags) {
  std::string xml = R"(<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">)";
  for (size_t i = 0; i < etags.size(); ++i) {
    xml += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, etags[i]);
  }
  return xml + "</CompleteMultipartUpload>";
}

}  // namespace linchpin
