// What a manifest claims of an artifact, read from a file that may be anything.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "artifact/read_back.h"

namespace linchpin {

inline constexpr std::string_view kManifestName = "linchpin.json";

struct TensorClaim {
  std::string name;  // of the source tensor
  bool quantized = false;
  std::vector<std::string> outputs;  // names of the tensors that hold it
  std::string sha256;                // of their bytes in this order
};

struct ManifestClaims {
  std::vector<FileRecord> files;
  std::vector<TensorClaim> tensors;
  std::vector<KeptWeight> kept;
};

// CONFIG_INVALID, naming `file` and the field, for whatever is not a manifest
// of this version.
absl::StatusOr<ManifestClaims> ReadManifestClaims(std::string_view file, std::string_view text);

}  // namespace linchpin
