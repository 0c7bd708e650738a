#include "storage/s3/aws_credentials.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "storage/s3/s3_xml.h"

namespace linchpin {
namespace {

constexpr std::chrono::minutes kRenewBefore{5};
constexpr std::streamsize kMaxFile = 1 << 20;

absl::Status Failed(std::string_view what, std::string_view why) {
  return Error(Reason::kStorageFailed, what, why, "check how the server gets its credentials");
}

std::string Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFile, '\0');
  if (!file) return Failed(path, "cannot be read");
  file.read(text.data(), kMaxFile);
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

// The settings of one section of an ini file.
std::map<std::string, std::string> Section(const std::string& text, const std::string& name) {
  std::map<std::string, std::string> settings;
  bool inside = false;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string line = Trimmed(std::string_view(text).substr(start, end - start));
    start = end + 1;
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      inside = Trimmed(std::string_view(line).substr(1, line.find(']') - 1)) == name;
    } else if (const size_t equals = line.find('='); inside && equals != std::string::npos) {
      settings[Trimmed(line.substr(0, equals))] = Trimmed(line.substr(equals + 1));
    }
  }
  return settings;
}

absl::StatusOr<std::string> Ask(const HttpClient& client, const HttpRequest& request) {
  ASSIGN_OR_RETURN(HttpResponse response, client.Send(request));
  if (!response.ok()) {
    return Failed(request.what,
                  fmt::format("answers {} {}", response.status, ErrorCodeOf(response.body)));
  }
  return std::move(response.body);
}

absl::StatusOr<AwsCredentials> ParseInstanceRole(const std::string& what, const std::string& text) {
  ASSIGN_OR_RETURN(const Json role, ParseJson(what, text, Reason::kStorageFailed));
  const auto field = [&role](const char* name) {
    const auto value = role.is_object() ? role.find(name) : role.end();
    return value != role.end() && value->is_string() ? value->get<std::string>() : std::string();
  };
  AwsCredentials credentials{field("AccessKeyId"), field("SecretAccessKey"), field("Token")};
  const auto expires = ParseIsoTime(field("Expiration"));
  if (credentials.access_key.empty() || credentials.secret_key.empty() || !expires) {
    return Failed(what, "answers with no credentials");
  }
  credentials.expires = *expires;
  return credentials;
}

}  // namespace

std::optional<std::string> EnvironmentText(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

AwsCredentialChain::Found AwsCredentialChain::FromEnvironment() {
  const auto access = EnvironmentText("AWS_ACCESS_KEY_ID");
  const auto secret = EnvironmentText("AWS_SECRET_ACCESS_KEY");
  if (!access || !secret) return std::nullopt;
  return AwsCredentials{*access, *secret, EnvironmentText("AWS_SESSION_TOKEN").value_or("")};
}

AwsCredentialChain::Found AwsCredentialChain::FromWebIdentity(const HttpClient& client) const {
  const auto file = EnvironmentText("AWS_WEB_IDENTITY_TOKEN_FILE");
  const auto role = EnvironmentText("AWS_ROLE_ARN");
  if (!file || !role) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string token, ReadSmallFile(*file));
  const auto named = EnvironmentText("AWS_ENDPOINT_URL_STS");
  HttpRequest request{.method = "POST", .what = "STS", .store = "s3"};
  ASSIGN_OR_RETURN(
      request.url,
      ParseEndpoint(named.value_or(fmt::format("https://sts.{}.amazonaws.com", options_.region))));
  request.any_address = named.has_value();
  const std::string form = fmt::format(
      "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}"
      "&WebIdentityToken={}",
      PercentEncode(*role, false),
      PercentEncode(EnvironmentText("AWS_ROLE_SESSION_NAME").value_or("linchpin"), false),
      PercentEncode(Trimmed(token), false));
  request.url.path = "/";
  request.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
  request.body = {reinterpret_cast<const std::byte*>(form.data()), form.size()};
  ASSIGN_OR_RETURN(const std::string answer, Ask(client, request));
  const auto credentials = ParseAssumedRole(answer);
  if (!credentials) return Failed("STS", "answers with no credentials");
  return credentials;
}

AwsCredentialChain::Found AwsCredentialChain::FromProfile() {
  const std::string home = EnvironmentText("HOME").value_or("");
  const auto named = EnvironmentText("AWS_SHARED_CREDENTIALS_FILE");
  const absl::StatusOr<std::string> text =
      ReadSmallFile(named.value_or(home + "/.aws/credentials"));
  if (!text.ok()) {
    if (named) return text.status();
    return std::nullopt;
  }
  auto settings = Section(*text, EnvironmentText("AWS_PROFILE").value_or("default"));
  AwsCredentials credentials{settings["aws_access_key_id"], settings["aws_secret_access_key"],
                             settings["aws_session_token"]};
  if (credentials.access_key.empty() || credentials.secret_key.empty()) return std::nullopt;
  // The file may be rewritten by whoever renews it.
  credentials.expires = std::chrono::system_clock::now() + 2 * kRenewBefore;
  return credentials;
}

AwsCredentialChain::Found AwsCredentialChain::FromInstance(const HttpClient& client) const {
  if (!options_.instance_metadata) return std::nullopt;
  HttpRequest request{.method = "PUT", .what = "instance metadata", .store = "s3"};
  ASSIGN_OR_RETURN(
      request.url,
      ParseEndpoint(
          EnvironmentText("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or("http://169.254.169.254")));
  request.any_address = true;
  request.url.path = "/latest/api/token";
  request.headers.emplace_back("X-aws-ec2-metadata-token-ttl-seconds", "21600");
  ASSIGN_OR_RETURN(const std::string token, Ask(client, request));
  request.method = "GET";
  request.headers = {{"X-aws-ec2-metadata-token", Trimmed(token)}};
  request.url.path = "/latest/meta-data/iam/security-credentials/";
  ASSIGN_OR_RETURN(const std::string roles, Ask(client, request));
  const std::string role = Trimmed(roles.substr(0, roles.find('\n')));
  request.url.path += PercentEncode(role, false);
  ASSIGN_OR_RETURN(const std::string answer, Ask(client, request));
  return ParseInstanceRole(request.what, answer);
}

absl::StatusOr<AwsCredentials> AwsCredentialChain::Find(const HttpClient& client) const {
  const std::function<Found()> links[] = {FromEnvironment, [&] { return FromWebIdentity(client); },
                                          FromProfile, [&] { return FromInstance(client); }};
  for (const auto& link : links) {
    ASSIGN_OR_RETURN(const std::optional<AwsCredentials> found, link());
    if (found) return *found;
  }
  return Failed("credentials of AWS",
                "none in the environment, as a web identity, in a profile or of the instance");
}

bool AwsCredentialChain::IsFresh() const {
  return kept_ && kept_->expires > std::chrono::system_clock::now() + kRenewBefore;
}

absl::StatusOr<AwsCredentials> AwsCredentialChain::Get(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!answered_.wait(lock, stop, [this] { return IsFresh() || !asking_; })) {
    return Error(Reason::kCancelled, "credentials of AWS", "stopped as asked");
  }
  if (IsFresh()) return *kept_;
  asking_ = true;
  lock.unlock();
  absl::StatusOr<AwsCredentials> found = Find(client_.Until(stop));
  lock.lock();
  asking_ = false;
  answered_.notify_all();
  if (found.ok()) kept_ = *found;
  return found;
}

}  // namespace linchpin
