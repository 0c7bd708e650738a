// Typed access to the metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/gguf_families.h"
#include "format/gguf.h"

namespace linchpin {

// Reads keys by their full names.  One that is absent has no value; one of the
// wrong type is CONFIG_INVALID naming the file and the key.
class GgufFields {
 public:
  // `metadata` must outlive this.
  GgufFields(std::string_view file, const GgufHeader& header) : file_(file), header_(&header) {}

  const std::string& file() const { return file_; }
  const GgufValue* Find(std::string_view key) const;

  absl::StatusOr<std::optional<std::string_view>> Text(std::string_view key) const;
  // A whole number in [0, high].  An array, one number per layer, counts as the
  // number it repeats; FEATURE_UNSUPPORTED where layers differ.
  absl::StatusOr<std::optional<int64_t>> Integer(std::string_view key,
                                                 int64_t high = int64_t{1} << 40) const;
  // A finite number; a float32 as the shortest decimal that reads back as it.
  absl::StatusOr<std::optional<double>> Real(std::string_view key) const;
  // Number or flag, as a number: for comparing.
  absl::StatusOr<std::optional<double>> Quantity(std::string_view key) const;
  absl::StatusOr<std::optional<GgufArray>> Array(std::string_view key) const;

  absl::Status Invalid(std::string_view key, std::string_view why) const;
  absl::Status Unsupported(std::string_view key, std::string_view why) const;

 private:
  std::string file_;
  const GgufHeader* header_;
};

// The family of general.architecture that applies; FAMILY_UNSUPPORTED with the
// architectures that are known.
absl::StatusOr<const GgufFamily*> FindGgufFamily(const GgufFields& fields);

// "llama." and the key.
std::string GgufKeyOf(const GgufFamily& family, std::string_view key);

}  // namespace linchpin
