#include "artifact/shard_files.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/status.h"
#include "format/safetensors.h"

namespace linchpin {
namespace {

// One output tensor and the place in `slots_` that is to learn where it lies.
struct Placed {
  TensorInfo info;
  TensorSlot* slot = nullptr;
};

std::vector<TensorInfo> InfosOf(const std::vector<Placed>& tensors) {
  std::vector<TensorInfo> infos;
  infos.reserve(tensors.size());
  for (const Placed& tensor : tensors) infos.push_back(tensor.info);
  return infos;
}

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace

absl::StatusOr<ShardFiles> ShardFiles::Create(const Checkpoint& checkpoint, const Plan& plan,
                                              OutputDirectory& output) {
  ShardFiles result;
  for (const PlanRow& row : plan.rows) result.slots_.emplace_back(row.outputs.size());
  const int shards = checkpoint.is_gguf() ? 1 : static_cast<int>(checkpoint.shards().size());
  for (int shard = 0; shard < shards; ++shard) {
    RETURN_IF_ERROR(result.AddShard(checkpoint, shard, plan, output));
  }
  result.index_.total_size = plan.bytes_out();
  return result;
}

absl::StatusOr<ShardFiles> ShardFiles::CreateShard(const Checkpoint& checkpoint, int shard,
                                                   const Plan& plan, OutputDirectory& output) {
  ShardFiles result;
  for (const PlanRow& row : plan.rows) result.slots_.emplace_back(row.outputs.size());
  RETURN_IF_ERROR(result.AddShard(checkpoint, shard, plan, output));
  return result;
}

absl::Status ShardFiles::AddShard(const Checkpoint& checkpoint, int shard, const Plan& plan,
                                  OutputDirectory& output) {
  std::vector<Placed> tensors;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    if (row.source.shard != shard && !checkpoint.is_gguf()) continue;
    for (size_t j = 0; j < row.outputs.size(); ++j) {
      tensors.push_back({row.outputs[j], &slots_[i][j]});
    }
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const Placed& a, const Placed& b) {
    return SizeOf(a.info.dtype) > SizeOf(b.info.dtype);
  });

  const Shard& source = checkpoint.shards()[shard];
  std::map<std::string, std::string> metadata = source.header.metadata;
  metadata["format"] = "pt";
  const SafetensorsLayout layout = LayOutSafetensors(InfosOf(tensors), metadata);

  File& file = files_.emplace_back();
  file.name = checkpoint.has_index() ? source.name : "model.safetensors";
  file.size = layout.file_size;
  ASSIGN_OR_RETURN(file.file, output.CreateFile(file.name, file.size));
  RETURN_IF_ERROR(file.file->WriteAt(0, BytesOf(layout.header)));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SafetensorsEntry& entry = layout.entries[i];
    *tensors[i].slot = {file.file.get(), entry.begin, entry.end - entry.begin};
    index_.weight_map[entry.info.name] = file.name;
  }
  return absl::OkStatus();
}

}  // namespace linchpin
