// Writes what a checkpoint holds: dump_checkpoint PATH VALUES.  Standard output
// is one JSON document, {"config": .., "tensors": [[name, shape], ..]}; VALUES
// becomes all their elements as float32, one tensor after the other, read a few
// rows at a time.  For tests that compare them with another implementation's.
#include <algorithm>
#include <fstream>
#include <iostream>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "storage/local_storage.h"

namespace linchpin {
namespace {

constexpr int64_t kRowsAtOnce = 100;

absl::Status WriteValues(const Checkpoint& checkpoint, const StoredTensor& tensor,
                         std::ostream& out) {
  const int64_t rows = tensor.info.shape.size() < 2 ? 1 : tensor.info.shape[0];
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    ASSIGN_OR_RETURN(const Matrix values,
                     checkpoint.ReadRows(tensor, first, std::min(kRowsAtOnce, rows - first)));
    out.write(reinterpret_cast<const char*>(values.data.data()),
              static_cast<std::streamsize>(values.data.size() * sizeof(float)));
  }
  return absl::OkStatus();
}

absl::Status Dump(const char* path, const char* values_path) {
  ASSIGN_OR_RETURN(const auto storage, LocalStorage::Create({{"/"}, {}, true}));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(*storage, path));
  ASSIGN_OR_RETURN(const Json config,
                   ParseJson("config.json", checkpoint.config_text(), Reason::kConfigInvalid));
  std::ofstream values(values_path, std::ios::binary);
  Json tensors = Json::array();
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    tensors.push_back({tensor.info.name, tensor.info.shape});
    RETURN_IF_ERROR(WriteValues(checkpoint, tensor, values));
  }
  std::cout << Json{{"config", config}, {"tensors", tensors}}.dump() << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: dump_checkpoint PATH VALUES\n";
    return 2;
  }
  const absl::Status status = linchpin::Dump(argv[1], argv[2]);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
