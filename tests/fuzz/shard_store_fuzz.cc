// The input is the detection of a job in parts and, after a NUL byte, the manifest of a
// shard that stands in its store.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "pipeline/shard_store.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/tiny_checkpoint.h"

namespace {

using linchpin::OpenShardJob;
using linchpin::ShardJob;

// What is opened with the detection has each of its weights within its tensor.
void OpenWith(const linchpin::MemoryStorage& storage, const ShardJob& job) {
  const auto open = OpenShardJob::Open(storage, job, 1);
  if (!open.ok()) {
    INVARIANT(linchpin::ReasonOf(open.status()) != linchpin::Reason::kInternal);
    return;
  }
  for (const linchpin::PinnedWeight& weight : open->plan.super_weights) {
    const auto tensor = open->checkpoint().Find(weight.position.tensor);
    INVARIANT(tensor.ok() && (*tensor)->info.shape.size() == 2);
    INVARIANT(weight.position.row < (*tensor)->info.shape[0]);
    INVARIANT(weight.position.column < (*tensor)->info.shape[1]);
  }
  INVARIANT(open->PartOf(1).rows.size() < open->plan.rows.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = PartsOf<2>(TextOf(data, size));
  linchpin::MemoryStorage storage;
  static const auto& made = *[] {
    auto* files = new linchpin::MemoryStorage;
    linchpin::PutTinyCheckpoint(*files, "/m", {.shards = 2});
    return files;
  }();
  const auto files = *made.List("/m");
  for (const linchpin::FileEntry& entry : files) {
    storage.Put("/m/" + entry.name, made.Get("/m/" + entry.name));
  }
  const ShardJob job{.source = "/m",
                     .destination = "/out",
                     .key = std::string(64, 'a'),
                     .quantize = {.scale = linchpin::ScaleRule::kMinMax},
                     .detection_json = std::string(parts[0])};
  OpenWith(storage, job);
  const std::string directory = linchpin::ShardDirectory(job, 0);
  storage.Put(directory + "/linchpin.json", linchpin::ToBytes(parts[1]));
  storage.Put(directory + "/model.safetensors", linchpin::ToBytes("12345678"));
  const auto shard = linchpin::ReadShard(storage, job, 0);
  if (shard.ok()) INVARIANT(shard->file.size == 8 && shard->file.name == "model.safetensors");
  return 0;
}
