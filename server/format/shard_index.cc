#include "format/shard_index.h"

#include <algorithm>

#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr std::string_view kSuffix = ".safetensors";
constexpr size_t kLongestName = 255;

absl::Status Invalid(std::string_view file, std::string_view why) {
  return Error(Reason::kIndexInvalid, file, why, kMalformedRemedy);
}

uint64_t TotalSize(const Json& index) {
  const auto metadata = index.find("metadata");
  if (metadata == index.end() || !metadata->is_object()) return 0;
  const auto size = metadata->find("total_size");
  return size != metadata->end() && size->is_number_unsigned() ? size->get<uint64_t>() : 0;
}

}  // namespace

bool IsShardName(std::string_view name) {
  const auto forbidden = [](unsigned char c) {
    return c < 0x20 || c == 0x7f || c == '/' || c == '\\' || c == '%' || c == ':';
  };
  return name.size() > kSuffix.size() && name.size() <= kLongestName && name.front() != '.' &&
         name.substr(name.size() - kSuffix.size()) == kSuffix &&
         name.find("..") == std::string_view::npos &&
         std::none_of(name.begin(), name.end(), forbidden);
}

absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view file, std::string_view json) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(file, json, Reason::kIndexInvalid));
  if (!document.is_object()) return Invalid(file, "not a JSON object");
  const auto weight_map = document.find("weight_map");
  if (weight_map == document.end() || !weight_map->is_object() || weight_map->empty()) {
    return Invalid(file, "weight_map is missing, empty or not an object");
  }
  ShardIndex index;
  index.total_size = TotalSize(document);
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string()) {
      return Invalid(file, fmt::format("tensor {}: its shard is not a string", tensor));
    }
    const auto& name = shard.get_ref<const std::string&>();
    if (!IsShardName(name)) {
      return Invalid(file, fmt::format("tensor {}: \"{}\" is not a plain file name ending in {}",
                                       tensor, name, kSuffix));
    }
    index.weight_map.emplace(tensor, name);
  }
  return index;
}

std::string SerializeShardIndex(const ShardIndex& index) {
  Json document;
  document["metadata"]["total_size"] = index.total_size;
  Json& weight_map = document["weight_map"] = Json::object();
  auto& members = weight_map.get_ref<Json::object_t&>();
  // The map is sorted and its keys are unique, so members are appended unsearched.
  for (const auto& [tensor, shard] : index.weight_map) {
    members.Json::object_t::Container::emplace_back(tensor, shard);
  }
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace linchpin
