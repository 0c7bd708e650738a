#include "checkpoint/byte_pair_encoder.h"

#include <queue>
#include <tuple>
#include <utility>

#include "base/status.h"
#include "checkpoint/tokenizer.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

absl::Status Invalid(std::string_view file, std::string_view why) {
  return Error(Reason::kTokenizerInvalid, file, why, kMalformedRemedy);
}

// A flag that may be absent or null.
bool Flag(const Json& model, const char* key) {
  const auto member = model.find(key);
  return member != model.end() && member->is_boolean() && member->get<bool>();
}

// True unless the option is absent, null, 0, or an empty string.
bool IsSet(const Json& model, const char* key) {
  const auto member = model.find(key);
  return member != model.end() && !member->is_null() && *member != 0 && *member != Json("");
}

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// The two tokens of a merge: "a b", or ["a", "b"] in newer files.
std::optional<std::pair<std::string, std::string>> PairOf(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (!merge.is_string()) return std::nullopt;
  const auto& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    return std::nullopt;
  }
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

// A pair of neighbours that may be joined: where it starts and into what.
struct Candidate {
  uint32_t rank;
  int32_t position;
  int32_t id;
  bool operator>(const Candidate& other) const {
    return std::tie(rank, position) > std::tie(other.rank, other.position);
  }
};

}  // namespace

absl::StatusOr<BytePairEncoder> BytePairEncoder::Parse(std::string_view file, const Json& model) {
  const auto type = model.find("type");
  if (type != model.end() && *type != "BPE") {
    return Error(Reason::kFeatureUnsupported, file,
                 fmt::format("a model of type {} is not built, only BPE", type->dump()), kGiveIds);
  }
  BytePairEncoder encoder;
  RETURN_IF_ERROR(encoder.ParseVocabulary(file, model));
  RETURN_IF_ERROR(encoder.ParseOptions(file, model));
  RETURN_IF_ERROR(encoder.ParseMerges(file, model));
  return encoder;
}

absl::Status BytePairEncoder::ParseVocabulary(std::string_view file, const Json& model) {
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end() || !vocabulary->is_object()) {
    return Invalid(file, "model.vocab is missing or not an object");
  }
  for (const auto& [token, id] : vocabulary->get_ref<const Json::object_t&>()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return Invalid(file, fmt::format("model.vocab: the id of \"{}\" is not a token id", token));
    }
    vocabulary_.emplace(token, id.get<int32_t>());
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[static_cast<size_t>(byte)] = Find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  return absl::OkStatus();
}

absl::Status BytePairEncoder::ParseOptions(std::string_view file, const Json& model) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (IsSet(model, key)) {
      return Error(Reason::kFeatureUnsupported, file, fmt::format("model.{} is not built", key),
                   kGiveIds);
    }
  }
  byte_fallback_ = Flag(model, "byte_fallback");
  fuse_unknown_ = Flag(model, "fuse_unk");
  ignore_merges_ = Flag(model, "ignore_merges");
  if (!IsSet(model, "unk_token")) return absl::OkStatus();
  const Json& unknown = *model.find("unk_token");
  if (unknown.is_string()) unknown_ = Find(unknown.get_ref<const std::string&>());
  if (unknown_) return absl::OkStatus();
  return Invalid(file, fmt::format("model.unk_token {} is not in the vocabulary", unknown.dump()));
}

absl::Status BytePairEncoder::ParseMerges(std::string_view file, const Json& model) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) {
    return Invalid(file, "model.merges is missing or not an array");
  }
  uint32_t rank = 0;
  for (const Json& merge : *merges) {
    const auto pair = PairOf(merge);
    if (!pair) return Invalid(file, fmt::format("model.merges[{}] is not a pair of tokens", rank));
    const auto left = Find(pair->first);
    const auto right = Find(pair->second);
    const auto joined = Find(pair->first + pair->second);
    if (!left || !right || !joined) {
      return Invalid(file, fmt::format("model.merges[{}]: \"{}\" and \"{}\" or what they join to "
                                       "is not in the vocabulary",
                                       rank, pair->first, pair->second));
    }
    merges_[PairKey(*left, *right)] = {rank++, *joined};
  }
  return absl::OkStatus();
}

std::optional<int32_t> BytePairEncoder::Find(std::string_view token) const {
  const auto entry = vocabulary_.find(token);
  if (entry == vocabulary_.end()) return std::nullopt;
  return entry->second;
}

const BytePairEncoder::Merge* BytePairEncoder::FindMerge(int32_t left, int32_t right) const {
  const auto merge = merges_.find(PairKey(left, right));
  return merge == merges_.end() ? nullptr : &merge->second;
}

bool BytePairEncoder::AppendBytes(std::string_view character, std::vector<Symbol>& symbols) const {
  for (const unsigned char byte : character) {
    if (byte_ids_[byte] < 0) return false;
  }
  for (const unsigned char byte : character) symbols.push_back({byte_ids_[byte]});
  return true;
}

std::vector<BytePairEncoder::Symbol> BytePairEncoder::Symbols(std::string_view word) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  // An unknown token waits for the next known character: neighbours may fuse
  // with it, and bytes that stand in for a character do not end it.
  bool pending = false;
  const auto flush = [&] {
    if (std::exchange(pending, false)) symbols.push_back({*unknown_});
  };
  while (!word.empty()) {
    const std::string_view character = word.substr(0, std::max<size_t>(Utf8Length(word), 1));
    word.remove_prefix(character.size());
    if (const auto id = Find(character)) {
      flush();
      symbols.push_back({*id});
    } else if (!byte_fallback_ || !AppendBytes(character, symbols)) {
      // Without an unknown token the reference drops the character; real
      // byte-level vocabularies lack some control bytes.
      if (!unknown_) continue;
      if (!fuse_unknown_) flush();
      pending = true;
    }
  }
  flush();
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
  }
  return symbols;
}

void BytePairEncoder::JoinAll(std::vector<Symbol>& symbols) const {
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto at = [&symbols](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  const auto consider = [&](int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    const Merge* merge = FindMerge(at(left).id, at(at(left).next).id);
    if (merge != nullptr) queue.push({merge->rank, left, merge->id});
  };
  for (size_t i = 0; i < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = at(best.position);
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    // Since it was queued, either side may have been joined to something else.
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;
    left.id = merge->id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) at(left.next).previous = best.position;
    consider(left.previous);
    consider(best.position);
  }
}

void BytePairEncoder::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto id = Find(word)) {
      ids.push_back(*id);
      return;
    }
  }
  std::vector<Symbol> symbols = Symbols(word);
  JoinAll(symbols);
  for (const Symbol& symbol : symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace linchpin
