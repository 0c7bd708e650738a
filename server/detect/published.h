// The super weights that others have published, and whether a model has them.
//
// Sources: Yu et al., arXiv 2411.07191, table 2 (its layer of OLMo-1B's second
// weight is a misprint), the work that followed it, and measurements of our own.  Thread-safe,
// reads no weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "checkpoint/model_config.h"
#include "detect/detection.h"

namespace linchpin {

// What tells one of the models from others of its name.
struct PublishedModel {
  std::string_view name;  // as on the Hugging Face hub
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  std::vector<PublishedWeight> weights;
};

absl::Span<const PublishedModel> PublishedModels();

// The model that a checkpoint is: one whose name, without its owner and
// whatever the case, is the last component of config.json's `_name_or_path` or
// of `path` (of the directory where `path` is a file), and that has the
// config's shape.  Null for any other.
const PublishedModel* IdentifyModel(const ModelConfig& config, std::string_view config_text,
                                    std::string_view path);

// Sets `published` of the detection and of its super weights.  `model` may be null.
void ComparePublished(const PublishedModel* model, Detection& detection);

}  // namespace linchpin
