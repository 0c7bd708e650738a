// Makes safetensors files, good and bad, and puts texts into a memory store.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "storage/memory_storage.h"
#include "tensor/tensor_info.h"

namespace linchpin {

// A tensor and its bytes.
struct TensorFixture {
  TensorInfo info;
  std::string bytes;
};

// A tensor of `values`, rounded to `dtype` (F32, F16 or BF16).
TensorFixture MakeTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                         const std::vector<float>& values);
// A tensor of any type whose bytes count up from `seed`.
TensorFixture MakeCountingTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                                 int seed = 0);

// A well-formed file.
std::string SafetensorsFile(const std::vector<TensorFixture>& tensors,
                            const std::map<std::string, std::string>& metadata = {});

// Whatever is given: the length of `json` (or `claimed_length`), `json`, `data`.
std::string RawSafetensors(std::string_view json, std::string_view data);
std::string RawSafetensors(uint64_t claimed_length, std::string_view json, std::string_view data);

// `text` as the bytes of a MemoryStorage.
MemoryStorage::Bytes ToBytes(std::string_view text);
std::string ToText(const MemoryStorage::Bytes& bytes);

}  // namespace linchpin
