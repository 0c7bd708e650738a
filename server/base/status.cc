#include "base/status.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr char kReasonPayload[] = "linchpin/reason";
constexpr std::string_view kDetailPrefix = "linchpin/detail/";

using absl::StatusCode;

const std::vector<ReasonInfo>& Table() {
  static const auto& table = *new std::vector<ReasonInfo>{
      {Reason::kFormatRefused, "FORMAT_REFUSED", StatusCode::kInvalidArgument},
      {Reason::kHeaderInvalid, "HEADER_INVALID", StatusCode::kInvalidArgument},
      {Reason::kTensorRangeInvalid, "TENSOR_RANGE_INVALID", StatusCode::kInvalidArgument},
      {Reason::kIndexInvalid, "INDEX_INVALID", StatusCode::kInvalidArgument},
      {Reason::kConfigInvalid, "CONFIG_INVALID", StatusCode::kInvalidArgument},
      {Reason::kTokenizerInvalid, "TOKENIZER_INVALID", StatusCode::kInvalidArgument},
      {Reason::kNotACheckpoint, "NOT_A_CHECKPOINT", StatusCode::kInvalidArgument},
      {Reason::kTensorMissing, "TENSOR_MISSING", StatusCode::kInvalidArgument},
      {Reason::kTensorShapeInvalid, "TENSOR_SHAPE_INVALID", StatusCode::kInvalidArgument},
      {Reason::kDtypeUnsupported, "DTYPE_UNSUPPORTED", StatusCode::kInvalidArgument},
      {Reason::kNotFinite, "NOT_FINITE", StatusCode::kInvalidArgument},
      {Reason::kOptionInvalid, "OPTION_INVALID", StatusCode::kInvalidArgument},
      {Reason::kTokensInvalid, "TOKENS_INVALID", StatusCode::kInvalidArgument},
      {Reason::kStreamInvalid, "STREAM_INVALID", StatusCode::kInvalidArgument},
      {Reason::kDigestMismatch, "DIGEST_MISMATCH", StatusCode::kInvalidArgument},
      {Reason::kFamilyUnsupported, "FAMILY_UNSUPPORTED", StatusCode::kUnimplemented},
      {Reason::kFeatureUnsupported, "FEATURE_UNSUPPORTED", StatusCode::kUnimplemented},
      {Reason::kSourceNotFound, "SOURCE_NOT_FOUND", StatusCode::kNotFound},
      {Reason::kSourceChanged, "SOURCE_CHANGED", StatusCode::kFailedPrecondition},
      {Reason::kPathNotAllowed, "PATH_NOT_ALLOWED", StatusCode::kPermissionDenied},
      {Reason::kOutputExists, "OUTPUT_EXISTS", StatusCode::kAlreadyExists},
      {Reason::kStorageFailed, "STORAGE_FAILED", StatusCode::kUnavailable},
      {Reason::kUnauthenticated, "UNAUTHENTICATED", StatusCode::kUnauthenticated},
      {Reason::kPolicyRefused, "POLICY_REFUSED", StatusCode::kPermissionDenied},
      {Reason::kExceedsServerLimit, "EXCEEDS_SERVER_LIMIT", StatusCode::kFailedPrecondition},
      {Reason::kBusy, "BUSY", StatusCode::kResourceExhausted},
      {Reason::kDraining, "DRAINING", StatusCode::kUnavailable},
      {Reason::kCancelled, "CANCELLED", StatusCode::kCancelled},
      {Reason::kVerifyMismatch, "VERIFY_MISMATCH", StatusCode::kDataLoss},
      {Reason::kInternal, "INTERNAL", StatusCode::kInternal},
  };
  return table;
}

// Names come from files and callers: what is not UTF-8 could not be sent on.
std::string ValidUtf8(std::string text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8Length(std::string_view(text).substr(i));
    if (length == 0) text[i] = '?';
    i += std::max<size_t>(length, 1);
  }
  return text;
}

// Puts "***" in place of `text` from `begin` to `end`; where the rest goes on.
size_t Hide(std::string& text, size_t begin, size_t end) {
  text.replace(begin, end - begin, "***");
  return begin + 3;
}

// What a URI may hold of secrets: a password before '@', a signature behind '?'.
std::string WithoutSecrets(std::string text) {
  constexpr char kEnds[] = " \t\"'<>";
  const auto find = [&](const char* set, size_t from) {
    return std::min(text.find_first_of(set, from), text.size());
  };
  for (size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at)) {
    at += 3;
    const size_t authority_end = std::min(find("/?#", at), find(kEnds, at));
    const size_t user_end = text.rfind('@', authority_end);
    if (user_end != std::string::npos && user_end >= at) at = Hide(text, at, user_end);
    const size_t query = find("?", at);
    size_t end = find(kEnds, at);
    if (text[end - 1] == ':') --end;  // between WHAT and WHY
    if (query < end) at = Hide(text, query + 1, end);
  }
  return text;
}

std::string OneLine(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  // Shortest form only, no surrogates, nothing past U+10FFFF.
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (lead < 0xc2 || lead > 0xf4 || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

const std::vector<ReasonInfo>& AllReasons() { return Table(); }

const ReasonInfo& InfoOf(Reason reason) {
  static const ReasonInfo& unspecified =
      *new ReasonInfo{Reason::kUnspecified, "UNSPECIFIED", StatusCode::kUnknown};
  for (const ReasonInfo& row : Table()) {
    if (row.reason == reason) return row;
  }
  return unspecified;
}

absl::Status Error(Reason reason, std::string_view what, std::string_view why,
                   std::string_view remedy) {
  std::string message = remedy.empty() ? fmt::format("{}: {}", what, why)
                                       : fmt::format("{}: {}: {}", what, why, remedy);
  const ReasonInfo& info = InfoOf(reason);
  absl::Status status(info.code, WithoutSecrets(OneLine(ValidUtf8(std::move(message)))));
  status.SetPayload(kReasonPayload, absl::Cord(std::string(info.name)));
  return status;
}

Reason ReasonOf(const absl::Status& status) {
  if (status.ok()) return Reason::kUnspecified;
  if (auto payload = status.GetPayload(kReasonPayload)) {
    for (const ReasonInfo& row : Table()) {
      if (*payload == std::string(row.name)) return row.reason;
    }
  }
  return absl::IsCancelled(status) ? Reason::kCancelled : Reason::kInternal;
}

absl::Status WithDetail(absl::Status status, std::string_view key, std::string_view value) {
  status.SetPayload(fmt::format("{}{}", kDetailPrefix, key), absl::Cord(std::string(value)));
  return status;
}

std::map<std::string, std::string> DetailsOf(const absl::Status& status) {
  std::map<std::string, std::string> details;
  status.ForEachPayload([&](auto url, const absl::Cord& value) {
    const std::string key(url);
    if (key.starts_with(kDetailPrefix)) {
      details.emplace(key.substr(kDetailPrefix.size()), std::string(value));
    }
  });
  return details;
}

}  // namespace linchpin
