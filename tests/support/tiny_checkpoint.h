// A small llama or mixtral checkpoint made in code, the same bytes on every machine.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "storage/memory_storage.h"
#include "tensor/dtype.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {

struct TinyCheckpoint {
  DType dtype = DType::kBF16;
  int64_t hidden = 64;
  int64_t intermediate = 160;
  int64_t layers = 2;
  int64_t vocab = 24;
  int64_t experts = 0;  // per layer, in place of its MLP: mixtral
  bool tied = true;     // else with an lm_head
  int shards = 1;       // more than one: with an index
  std::map<std::string, std::string> metadata;
  // Sees every tensor before it is written.
  std::function<void(TensorFixture&)> edit;
};

// The tensors in the order in which they are written.
std::vector<TensorFixture> TinyTensors(const TinyCheckpoint& tiny);

// Writes config.json, the weights, tokenizer.json and a licence below `directory`.
void PutTinyCheckpoint(MemoryStorage& storage, const std::string& directory,
                       const TinyCheckpoint& tiny = {});

// The finalizer of splitmix64: any counter to well-mixed bits.
uint64_t MixBits(uint64_t x);

// Puts `value` at [row, column] of a matrix.
void SetElement(TensorFixture& tensor, int64_t row, int64_t column, float value);

}  // namespace linchpin
