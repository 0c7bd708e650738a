#include "tests/support/gguf_file.h"

#include <bit>
#include <cstring>
#include <utility>

namespace linchpin {
namespace {

constexpr uint32_t kU32 = 4, kF32 = 6, kBool = 7, kString = 8, kArray = 9;

std::string LittleEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i & 0xff);
  return text;
}

void PadTo(std::string& text, uint64_t alignment) {
  text.resize((text.size() + alignment - 1) / alignment * alignment);
}

std::string Header(const std::vector<std::string>& pairs, const std::vector<std::string>& entries,
                   uint32_t version) {
  std::string file = "GGUF" + GgufU32(version) + GgufU64(entries.size()) + GgufU64(pairs.size());
  for (const std::string& pair : pairs) file += pair;
  for (const std::string& entry : entries) file += entry;
  return file;
}

}  // namespace

std::string GgufU32(uint32_t value) { return LittleEndian(value, 4); }
std::string GgufU64(uint64_t value) { return LittleEndian(value, 8); }
std::string GgufF32(float value) { return GgufU32(std::bit_cast<uint32_t>(value)); }
std::string GgufString(std::string_view text) { return GgufU64(text.size()) + std::string(text); }

std::string GgufRawPair(std::string_view key, uint32_t type, std::string_view bytes) {
  return GgufString(key) + GgufU32(type) + std::string(bytes);
}
std::string GgufPair(std::string_view key, uint32_t value) {
  return GgufRawPair(key, kU32, GgufU32(value));
}
std::string GgufPair(std::string_view key, float value) {
  return GgufRawPair(key, kF32, GgufF32(value));
}
std::string GgufPair(std::string_view key, bool value) {
  return GgufRawPair(key, kBool, LittleEndian(value ? 1 : 0, 1));
}
std::string GgufPair(std::string_view key, const char* value) {
  return GgufRawPair(key, kString, GgufString(value));
}
std::string GgufPair(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes;
  for (const std::string& value : values) bytes += GgufString(value);
  return GgufArrayPair(key, kString, values.size(), bytes);
}
std::string GgufArrayPair(std::string_view key, uint32_t type, uint64_t count,
                          std::string_view bytes) {
  return GgufRawPair(key, kArray, GgufU32(type) + GgufU64(count) + std::string(bytes));
}

std::string GgufTensorEntry(std::string_view name, const std::vector<uint64_t>& dimensions,
                            uint32_t type, uint64_t offset) {
  std::string entry = GgufString(name) + GgufU32(static_cast<uint32_t>(dimensions.size()));
  for (const uint64_t dimension : dimensions) entry += GgufU64(dimension);
  return entry + GgufU32(type) + GgufU64(offset);
}

GgufFixture MakeGgufTensor(std::string name, std::vector<int64_t> shape,
                           const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return {std::move(name), std::move(shape), 0, std::move(bytes)};
}

std::vector<std::string> TinyGgufPairs(std::string_view architecture) {
  const auto key = [architecture](const char* name) {
    return std::string(architecture) + "." + name;
  };
  return {GgufPair("general.architecture", std::string(architecture).c_str()),
          GgufPair(key("context_length"), 64U),
          GgufPair(key("embedding_length"), 8U),
          GgufPair(key("block_count"), 1U),
          GgufPair(key("feed_forward_length"), 32U),
          GgufPair(key("attention.head_count"), 2U),
          GgufPair(key("attention.head_count_kv"), 1U),
          GgufPair(key("attention.layer_norm_rms_epsilon"), 1e-5F)};
}

std::vector<GgufFixture> TinyGgufTensors() {
  const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
      {"token_embd.weight", {5, 8}},    {"blk.0.attn_norm.weight", {8}},
      {"blk.0.attn_q.weight", {8, 8}},  {"blk.0.attn_k.weight", {4, 8}},
      {"blk.0.attn_v.weight", {4, 8}},  {"blk.0.attn_output.weight", {8, 8}},
      {"blk.0.ffn_norm.weight", {8}},   {"blk.0.ffn_gate.weight", {32, 8}},
      {"blk.0.ffn_up.weight", {32, 8}}, {"blk.0.ffn_down.weight", {8, 32}},
      {"output_norm.weight", {8}},
  };
  std::vector<GgufFixture> tensors;
  for (const auto& [name, shape] : shapes) {
    std::vector<float> values(static_cast<size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(1000 * tensors.size() + i);
    }
    tensors.push_back(MakeGgufTensor(name, shape, values));
  }
  return tensors;
}

std::string GgufFile(const std::vector<std::string>& pairs, const std::vector<GgufFixture>& tensors,
                     uint64_t alignment) {
  std::vector<std::string> entries;
  std::string data;
  for (const GgufFixture& tensor : tensors) {
    PadTo(data, alignment);
    entries.push_back(GgufTensorEntry(tensor.name, {tensor.shape.rbegin(), tensor.shape.rend()},
                                      tensor.type, data.size()));
    data += tensor.bytes;
  }
  std::string file = Header(pairs, entries, 3);
  PadTo(file, alignment);
  return file + data;
}

std::string RawGguf(const std::vector<std::string>& pairs, const std::vector<std::string>& entries,
                    std::string_view data, uint32_t version) {
  std::string file = Header(pairs, entries, version);
  PadTo(file, 32);
  return file.append(data);
}

}  // namespace linchpin
