// The headers of GGUF files in a store, and the small tensors that belong to them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/gguf_fields.h"
#include "checkpoint/gguf_rope.h"
#include "format/gguf.h"
#include "storage/storage.h"

namespace linchpin {

// A header and the bytes that it views.
struct GgufFile {
  std::string path;  // for errors
  std::vector<char> text;
  GgufHeader header;
};

// Reads as many bytes from the start of `file` as its header takes, or little
// more.  The errors of ParseGgufHeader, naming `path`.
absl::StatusOr<GgufFile> ReadGgufFile(const ReadableFile& file, std::string_view path);

// The names of all files of a model, of which `name` is the first: itself alone,
// or "m-00001-of-00003.gguf" and the others.  INDEX_INVALID where a part of a
// split model is not the first, or not called so.
absl::StatusOr<std::vector<std::string>> GgufFileNames(const GgufFields& fields,
                                                       const std::string& name);

// Adds the tensors of a file that hold rotary factors.  TENSOR_SHAPE_INVALID for
// one that is not a short vector of F32.
absl::Status ReadRopeFactors(const ReadableFile& file, std::string_view path,
                             const GgufHeader& header, GgufRopeFactors& factors);

}  // namespace linchpin
