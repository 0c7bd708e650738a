#include "artifact/manifest_claims.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>

#include "base/run_context.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

// A value of the manifest and where it stands, as in "output.files[3].size".
class Field {
 public:
  Field(std::string_view file, std::string path, const Json& json)
      : file_(file), path_(std::move(path)), json_(&json) {}

  absl::StatusOr<Field> Get(const std::string& key) const {
    if (!json_->is_object()) return Wrong("not an object");
    const auto found = json_->find(key);
    const std::string path = path_.empty() ? key : path_ + "." + key;
    if (found == json_->end()) return Field(file_, path, *json_).Wrong("missing");
    return Field(file_, path, *found);
  }

  absl::StatusOr<std::vector<Field>> Items() const {
    if (!json_->is_array()) return Wrong("not an array");
    std::vector<Field> items;
    for (size_t i = 0; i < json_->size(); ++i) {
      items.emplace_back(file_, fmt::format("{}[{}]", path_, i), (*json_)[i]);
    }
    return items;
  }

  absl::StatusOr<std::string> Text() const {
    if (!json_->is_string() || json_->get_ref<const std::string&>().empty()) {
      return Wrong("not a text");
    }
    return json_->get<std::string>();
  }

  absl::StatusOr<uint64_t> Unsigned() const {
    if (!json_->is_number_unsigned()) return Wrong("not a whole number from 0 on");
    return json_->get<uint64_t>();
  }

  absl::StatusOr<int64_t> Index() const {
    ASSIGN_OR_RETURN(const uint64_t value, Unsigned());
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Wrong("too large");
    }
    return static_cast<int64_t>(value);
  }

  absl::StatusOr<float> Float() const {
    if (!json_->is_number()) return Wrong("not a number");
    const double value = json_->get<double>();
    if (!(std::fabs(value) <= std::numeric_limits<float>::max())) return Wrong("not a float32");
    return static_cast<float>(value);
  }

  absl::StatusOr<bool> Bool() const {
    if (!json_->is_boolean()) return Wrong("not true or false");
    return json_->get<bool>();
  }

  absl::StatusOr<std::string> Digest() const {
    ASSIGN_OR_RETURN(std::string text, Text());
    if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
      return Wrong("not a SHA-256 in lower-case hexadecimal");
    }
    return text;
  }

  absl::Status Wrong(std::string_view why) const {
    return Error(Reason::kConfigInvalid, file_, fmt::format("{}: {}", path_, why),
                 "compress the model again");
  }

 private:
  std::string_view file_;
  std::string path_;
  const Json* json_;
};

absl::StatusOr<FileRecord> ReadFile(const Field& field) {
  FileRecord record;
  ASSIGN_OR_RETURN(const Field name, field.Get("name"));
  ASSIGN_OR_RETURN(record.name, name.Text());
  ASSIGN_OR_RETURN(const Field size, field.Get("size"));
  ASSIGN_OR_RETURN(record.size, size.Unsigned());
  ASSIGN_OR_RETURN(const Field digest, field.Get("sha256"));
  ASSIGN_OR_RETURN(record.sha256, digest.Digest());
  return record;
}

std::vector<std::string_view> ActionNames() {
  std::vector<std::string_view> names;
  for (int action = 0; action < kTensorActionCount; ++action) {
    names.push_back(TensorActionName(static_cast<TensorAction>(action)));
  }
  return names;
}

absl::StatusOr<TensorClaim> ReadTensor(const Field& field) {
  TensorClaim claim;
  ASSIGN_OR_RETURN(const Field name, field.Get("name"));
  ASSIGN_OR_RETURN(claim.name, name.Text());
  ASSIGN_OR_RETURN(const Field action, field.Get("action"));
  ASSIGN_OR_RETURN(const std::string action_name, action.Text());
  claim.quantized = action_name == "quantized";
  const std::vector<std::string_view> known = ActionNames();
  if (std::find(known.begin(), known.end(), action_name) == known.end()) {
    return action.Wrong(fmt::format("not one of {}", fmt::join(known, ", ")));
  }
  ASSIGN_OR_RETURN(const Field outputs, field.Get("outputs"));
  ASSIGN_OR_RETURN(const std::vector<Field> items, outputs.Items());
  for (const Field& item : items) {
    ASSIGN_OR_RETURN(std::string output, item.Text());
    claim.outputs.push_back(std::move(output));
  }
  ASSIGN_OR_RETURN(const Field digest, field.Get("sha256"));
  ASSIGN_OR_RETURN(claim.sha256, digest.Digest());
  return claim;
}

absl::StatusOr<KeptWeight> ReadKept(const Field& field) {
  KeptWeight kept;
  ASSIGN_OR_RETURN(const Field tensor, field.Get("tensor"));
  ASSIGN_OR_RETURN(kept.weight.position.tensor, tensor.Text());
  ASSIGN_OR_RETURN(const Field row, field.Get("row"));
  ASSIGN_OR_RETURN(kept.weight.position.row, row.Index());
  ASSIGN_OR_RETURN(const Field column, field.Get("column"));
  ASSIGN_OR_RETURN(kept.weight.position.column, column.Index());
  ASSIGN_OR_RETURN(const Field value, field.Get("value"));
  ASSIGN_OR_RETURN(kept.weight.value, value.Float());
  ASSIGN_OR_RETURN(const Field stored, field.Get("stored_value"));
  ASSIGN_OR_RETURN(kept.stored_value, stored.Float());
  ASSIGN_OR_RETURN(const Field how, field.Get("kept"));
  ASSIGN_OR_RETURN(kept.how, how.Text());
  ASSIGN_OR_RETURN(const Field exact, field.Get("exact"));
  ASSIGN_OR_RETURN(kept.exact, exact.Bool());
  return kept;
}

// Reads every item of the array at `field`.
template <typename T>
absl::StatusOr<std::vector<T>> ReadList(const Field& field,
                                        absl::StatusOr<T> (*read)(const Field&)) {
  ASSIGN_OR_RETURN(const std::vector<Field> items, field.Items());
  std::vector<T> result;
  for (const Field& item : items) {
    ASSIGN_OR_RETURN(T value, read(item));
    result.push_back(std::move(value));
  }
  return result;
}

template <typename T>
absl::Status CheckUnique(const Field& field, const std::vector<T>& named) {
  std::set<std::string_view> names;
  for (const T& item : named) {
    if (!names.insert(item.name).second) {
      return field.Wrong(fmt::format("'{}' stands there twice", item.name));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ManifestClaims> ReadManifestClaims(std::string_view file, std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(file, text, Reason::kConfigInvalid));
  const Field root(file, "", json);
  ASSIGN_OR_RETURN(const Field version, root.Get("manifest_version"));
  ASSIGN_OR_RETURN(const uint64_t number, version.Unsigned());
  if (number != 1) return version.Wrong("this build reads version 1");
  ManifestClaims claims;
  ASSIGN_OR_RETURN(const Field output, root.Get("output"));
  ASSIGN_OR_RETURN(const Field files, output.Get("files"));
  ASSIGN_OR_RETURN(claims.files, ReadList(files, ReadFile));
  RETURN_IF_ERROR(CheckUnique(files, claims.files));
  ASSIGN_OR_RETURN(const Field tensors, root.Get("tensors"));
  ASSIGN_OR_RETURN(claims.tensors, ReadList(tensors, ReadTensor));
  RETURN_IF_ERROR(CheckUnique(tensors, claims.tensors));
  ASSIGN_OR_RETURN(const Field kept, root.Get("super_weights"));
  ASSIGN_OR_RETURN(claims.kept, ReadList(kept, ReadKept));
  return claims;
}

}  // namespace linchpin
