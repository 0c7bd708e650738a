// The input is a whole GGUF file: the model that it is shown as, its vocabulary as a
// tokenizer.json, and the pattern that an output would follow.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "checkpoint/model_config.h"
#include "checkpoint/tokenizer.h"
#include "storage/memory_storage.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/safetensors_file.h"

namespace {

using linchpin::Checkpoint;
using linchpin::StoredTensor;

// First and last row of every tensor can be read, and no row behind them.
void ReadEnds(const Checkpoint& checkpoint) {
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.info.shape.size() != 2 || !checkpoint.CheckReadable(tensor).ok()) continue;
    const int64_t rows = tensor.info.shape[0];
    INVARIANT(rows == 0 || checkpoint.ReadRows(tensor, 0, 1).ok());
    INVARIANT(rows == 0 || checkpoint.ReadRows(tensor, rows - 1, 1).ok());
    INVARIANT(!checkpoint.ReadRows(tensor, rows, 1).ok());
  }
}

// Every part of a slot is a tensor of the model.
void CheckSlots(const Checkpoint& checkpoint, const linchpin::GgufTemplate& pattern) {
  size_t parts = 0;
  for (const linchpin::GgufSlot& slot : pattern.slots()) {
    parts += slot.parts.size();
    for (const StoredTensor& part : slot.parts) INVARIANT(checkpoint.Has(part.info.name));
  }
  INVARIANT(parts == checkpoint.tensors().size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  linchpin::MemoryStorage storage;
  storage.Put("/m.gguf", linchpin::ToBytes(TextOf(data, size)));
  const auto checkpoint = Checkpoint::Open(storage, "/m.gguf");
  if (!checkpoint.ok()) return 0;
  INVARIANT(checkpoint->is_gguf());
  ReadEnds(*checkpoint);
  (void)linchpin::ModelConfig::Parse("fuzz", checkpoint->config_text());
  if (const auto text = checkpoint->TokenizerText(); text.ok()) {
    if (const auto tokenizer = linchpin::Tokenizer::Parse("fuzz", *text); tokenizer.ok()) {
      (void)tokenizer->Encode("A text.");
    }
  }
  const auto pattern = linchpin::GgufTemplate::Open(*checkpoint);
  if (pattern.ok()) CheckSlots(*checkpoint, *pattern);
  return 0;
}
