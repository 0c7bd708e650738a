// What a GGUF output follows: the source itself where it is a GGUF file, else the
// donor, else what is made from the source's config and tokenizer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "quantize/options.h"
#include "storage/storage.h"

namespace linchpin {

class OutputPattern {
 public:
  // `source` must outlive this.  FORMAT_REFUSED for a donor that is no GGUF file,
  // CONFIG_INVALID for one of another model; the errors of GgufTemplate.
  absl::Status Open(const Storage& storage, const Checkpoint& source,
                    const QuantizeOptions& options);

  // Where metadata and tokenizer are from, unless they are the source's own.
  std::vector<std::string> Notes() const;
  // Null where nothing is followed.
  const GgufTemplate* get() const { return template_ ? &*template_ : nullptr; }

 private:
  std::optional<Checkpoint> donor_;
  std::optional<GgufTemplate> template_;
};

}  // namespace linchpin
