// What makes two jobs the same job: the same input, options and algorithm.
//
// A key is the SHA-256 of these in canonical form, so that any replica gives a
// call made again the same key, wherever its source lies.  Digests of a whole
// source would cost as much as the job; a fingerprint takes its place, which
// sees every file's name and size, every tensor's place, the config, and samples
// of the bytes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "checkpoint/checkpoint.h"

namespace linchpin {

// Grows when the same input and options give other bytes than before.
inline constexpr int kAlgorithmVersion = 2;

// 64 lower-case hexadecimal digits.  Reads one block of 4 KiB per file and about
// 64 in all; the errors of Storage.
absl::StatusOr<std::string> FingerprintOf(const Checkpoint& checkpoint);

// The same of one file: its size and 64 KiB of its bytes, from the first to the last.
absl::StatusOr<std::string> SampleDigest(uint64_t size, const ReadRange& read);

// 64 lower-case hexadecimal digits.  `kind` names the job, `options` is their
// canonical form, `source` a fingerprint or digest.
std::string JobKey(std::string_view kind, std::string_view options, std::string_view source);

}  // namespace linchpin
