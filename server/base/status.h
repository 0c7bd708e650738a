// Errors: one reason per way to fail, one line per message, and the two macros
// that pass a status on.
//
// A message reads `WHAT: WHY: REMEDY` and stands alone: WHAT names the file and
// the tensor, REMEDY says what the caller can do.  The reason is part of the
// API: service/ sends it as google.rpc.ErrorInfo.reason, so a name here is
// never changed or reused.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace linchpin {

enum class Reason {
  kUnspecified,
  // The input is at fault.
  kFormatRefused,
  kHeaderInvalid,
  kTensorRangeInvalid,
  kIndexInvalid,
  kConfigInvalid,
  kTokenizerInvalid,
  kNotACheckpoint,
  kTensorMissing,
  kTensorShapeInvalid,
  kDtypeUnsupported,
  kNotFinite,
  kOptionInvalid,
  kTokensInvalid,
  kStreamInvalid,
  kDigestMismatch,
  // What was asked for is not built.
  kFamilyUnsupported,
  kFeatureUnsupported,
  // The store.
  kSourceNotFound,
  kSourceChanged,
  kPathNotAllowed,
  kOutputExists,
  kStorageFailed,
  // The caller.
  kUnauthenticated,
  kPolicyRefused,
  // The server.
  kExceedsServerLimit,
  kBusy,
  kDraining,
  kCancelled,
  kVerifyMismatch,
  kInternal,
};

// One row of the table of reasons.
struct ReasonInfo {
  Reason reason;
  std::string_view name;  // stable, upper snake case, as sent to callers
  absl::StatusCode code;  // the one code that this reason travels with
};

// All reasons but kUnspecified, in the order of the enum.
const std::vector<ReasonInfo>& AllReasons();

// The row of one reason.
const ReasonInfo& InfoOf(Reason reason);

// Makes a status with the reason's code, message `what: why: remedy` (an empty
// remedy is left out) and the reason attached.  Control characters become spaces,
// bytes that are not UTF-8 question marks; user and query of a URI are hidden.
absl::Status Error(Reason reason, std::string_view what, std::string_view why,
                   std::string_view remedy = {});

// The reason that `Error` attached; for a status made elsewhere, kCancelled for
// a cancellation, otherwise kInternal; kUnspecified for an OK status.
Reason ReasonOf(const absl::Status& status);

// `status` with one more fact for programs, e.g. "limit_bytes": sent to callers
// in ErrorInfo.metadata.  DetailsOf gives them back by key.
absl::Status WithDetail(absl::Status status, std::string_view key, std::string_view value);
std::map<std::string, std::string> DetailsOf(const absl::Status& status);

// Bytes of the UTF-8 sequence that `text` begins with, 1 to 4; 0 if it begins
// with none.  Shortest forms only, no surrogates.
size_t Utf8Length(std::string_view text);

}  // namespace linchpin

#define LINCHPIN_CONCAT_(a, b) a##b
#define LINCHPIN_CONCAT(a, b) LINCHPIN_CONCAT_(a, b)

// Returns the status of `expression` from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expression)                           \
  do {                                                        \
    if (absl::Status status_ = (expression); !status_.ok()) { \
      return status_;                                         \
    }                                                         \
  } while (false)

// Assigns the value of a StatusOr `expression` to `target` (which may declare a
// variable) or returns its status from the enclosing function.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses.
#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_(LINCHPIN_CONCAT(status_or_, __LINE__), target, expression)
#define ASSIGN_OR_RETURN_(status_or, target, expression) \
  auto status_or = (expression);                         \
  if (!status_or.ok()) return status_or.status();        \
  target = std::move(status_or).value()
// NOLINTEND(bugprone-macro-parentheses)
