// The input is the file of an adapter beside a compressed model: of PEFT, or, where it
// begins so, a GGUF file.
#include <cstddef>
#include <cstdint>
#include <string>

#include "artifact/lora_adapter.h"
#include "base/status.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/gguf_file.h"
#include "tests/support/tiny_checkpoint.h"

namespace {

using linchpin::Checkpoint;

const linchpin::MemoryStorage& Models() {
  static const auto& storage = *[] {
    auto* made = new linchpin::MemoryStorage;
    linchpin::PutTinyCheckpoint(*made, "/m");
    made->Put("/m.gguf", linchpin::ToBytes(linchpin::GgufFile(linchpin::TinyGgufPairs(),
                                                              linchpin::TinyGgufTensors())));
    return made;
  }();
  return storage;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Checkpoint& dense = *new Checkpoint(*Checkpoint::Open(Models(), "/m"));
  static const Checkpoint& gguf = *new Checkpoint(*Checkpoint::Open(Models(), "/m.gguf"));
  const std::string_view file = TextOf(data, size);
  const bool is_gguf = file.starts_with("GGUF");
  linchpin::MemoryStorage storage;
  storage.Put(is_gguf ? "/o/" + std::string(linchpin::kGgufAdapterName)
                      : "/o/adapter/adapter_model.safetensors",
              linchpin::ToBytes(file));
  const auto value = linchpin::ReadAdapter(
      storage, "/o", is_gguf ? gguf : dense,
      {.tensor = "model.layers.0.mlp.down_proj.weight", .row = 3, .column = 5});
  if (!value.ok()) INVARIANT(linchpin::ReasonOf(value.status()) != linchpin::Reason::kInternal);
  return 0;
}
