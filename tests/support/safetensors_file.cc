#include "tests/support/safetensors_file.h"

#include "format/safetensors.h"
#include "tensor/float16.h"

namespace linchpin {

TensorFixture MakeTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                         const std::vector<float>& values) {
  const auto size = static_cast<size_t>(SizeOf(dtype));
  TensorFixture tensor{{std::move(name), dtype, std::move(shape)},
                       std::string(values.size() * size, '\0')};
  for (size_t i = 0; i < values.size(); ++i) {
    StoreAs(dtype, values[i], reinterpret_cast<std::byte*>(tensor.bytes.data() + i * size));
  }
  return tensor;
}

TensorFixture MakeCountingTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                                 int seed) {
  TensorFixture tensor{{std::move(name), dtype, std::move(shape)}, {}};
  const int64_t size = ByteSize(tensor.info).value();
  for (int64_t i = 0; i < size; ++i) tensor.bytes += static_cast<char>(seed + i);
  return tensor;
}

std::string SafetensorsFile(const std::vector<TensorFixture>& tensors,
                            const std::map<std::string, std::string>& metadata) {
  std::vector<TensorInfo> infos;
  std::string data;
  for (const TensorFixture& tensor : tensors) {
    infos.push_back(tensor.info);
    data += tensor.bytes;
  }
  return LayOutSafetensors(infos, metadata).header + data;
}

std::string RawSafetensors(std::string_view json, std::string_view data) {
  return RawSafetensors(json.size(), json, data);
}

std::string RawSafetensors(uint64_t claimed_length, std::string_view json, std::string_view data) {
  std::string file;
  for (int shift = 0; shift < 64; shift += 8) {
    file += static_cast<char>(claimed_length >> shift & 0xff);
  }
  file += json;
  file += data;
  return file;
}

MemoryStorage::Bytes ToBytes(std::string_view text) {
  auto bytes = std::make_shared<ZeroedBytes>(text.size());
  for (size_t i = 0; i < text.size(); ++i) (*bytes)[i] = static_cast<std::byte>(text[i]);
  return bytes;
}

std::string ToText(const MemoryStorage::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

}  // namespace linchpin
