#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr double kDefaultTheta = 10000;  // llama.cpp's

// The factor that gives `rotated` of `head_dim` when the product is cut to a whole number.
double PartialRotation(int64_t rotated, int64_t head_dim) {
  const auto size = static_cast<double>(head_dim);
  const double factor = static_cast<double>(rotated) / size;
  const bool lost = std::floor(size * factor) < static_cast<double>(rotated);
  return lost ? std::nextafter(factor, 2) : factor;
}

class ConfigWriter {
 public:
  ConfigWriter(const GgufFields& fields, const GgufFamily& family,
               const std::vector<StoredTensor>& tensors)
      : fields_(fields), family_(family), tensors_(tensors) {}

  absl::StatusOr<Json> Write(const GgufRopeFactors& factors) {
    RETURN_IF_ERROR(RefuseUnbuilt());
    config_ = Json::parse(family_.constants);
    config_["model_type"] = family_.model_type;
    for (const auto& keys : family_.keys) {
      for (const GgufKey& key : keys) RETURN_IF_ERROR(Copy(key));
    }
    RETURN_IF_ERROR(AddHeads());
    RETURN_IF_ERROR(AddRotation(factors));
    RETURN_IF_ERROR(AddVocabulary());
    RETURN_IF_ERROR(AddAttentionScale());
    AddBiases();
    return std::move(config_);
  }

 private:
  std::string Key(std::string_view key) const { return GgufKeyOf(family_, key); }

  const StoredTensor* Find(std::string_view name) const {
    const auto tensor = std::find_if(tensors_.begin(), tensors_.end(),
                                     [name](const auto& each) { return each.info.name == name; });
    return tensor == tensors_.end() ? nullptr : &*tensor;
  }

  absl::Status RefuseUnbuilt() const {
    const auto check = [this](const GgufNeutralKey& neutral) -> absl::Status {
      ASSIGN_OR_RETURN(const auto value, fields_.Quantity(Key(neutral.gguf)));
      if (!value || *value == neutral.value || *value == neutral.other) return absl::OkStatus();
      return fields_.Unsupported(Key(neutral.gguf), fmt::format("of {} is not built", *value));
    };
    for (const GgufNeutralKey& neutral : GgufNeutralKeys()) RETURN_IF_ERROR(check(neutral));
    for (const GgufNeutralKey& neutral : family_.neutral) RETURN_IF_ERROR(check(neutral));
    return absl::OkStatus();
  }

  // A zero stands for "none": null, which is a default's opposite too.
  absl::Status Copy(const GgufKey& key) {
    Json& target = config_[std::string(key.hf)];
    const Json otherwise = std::exchange(target, nullptr);
    if (fields_.Find(Key(key.gguf)) == nullptr) {
      if (key.required) return fields_.Invalid(Key(key.gguf), "is missing");
      target = otherwise;
    } else if (key.kind == GgufKeyKind::kPattern) {
      target = otherwise;
      return CopyPattern(key);
    } else if (key.kind == GgufKeyKind::kReal) {
      ASSIGN_OR_RETURN(const auto value, fields_.Real(Key(key.gguf)));
      if (*value != 0) target = *value;
    } else {
      ASSIGN_OR_RETURN(const auto value, fields_.Integer(Key(key.gguf)));
      if (*value != 0 || key.required) target = *value;
    }
    return absl::OkStatus();
  }

  // One number, or for each layer whether it sees a window only.
  absl::Status CopyPattern(const GgufKey& key) {
    if (std::holds_alternative<uint64_t>(*fields_.Find(Key(key.gguf)))) {
      ASSIGN_OR_RETURN(const auto value, fields_.Integer(Key(key.gguf)));
      config_[std::string(key.hf)] = *value;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const auto array, fields_.Array(Key(key.gguf)));
    const auto flags = array->Flags();
    if (!flags || std::cmp_less(flags->size(), config_["num_hidden_layers"].get<int64_t>())) {
      return fields_.Invalid(Key(key.gguf), "must say true or false for every layer");
    }
    Json types = Json::array();
    for (int64_t i = 0; i < config_["num_hidden_layers"].get<int64_t>(); ++i) {
      types.push_back((*flags)[static_cast<size_t>(i)] ? "sliding_attention" : "full_attention");
    }
    config_["layer_types"] = std::move(types);
    config_.erase(std::string(key.hf));
    return absl::OkStatus();
  }

  absl::Status AddHeads() {
    ASSIGN_OR_RETURN(const auto heads, fields_.Integer(Key("attention.head_count")));
    if (heads.value_or(0) == 0) return fields_.Invalid(Key("attention.head_count"), "is missing");
    ASSIGN_OR_RETURN(const auto kv_heads, fields_.Integer(Key("attention.head_count_kv")));
    ASSIGN_OR_RETURN(const auto size, fields_.Integer(Key("attention.key_length")));
    ASSIGN_OR_RETURN(const auto value_size, fields_.Integer(Key("attention.value_length")));
    heads_ = *heads;
    head_dim_ = size.value_or(config_["hidden_size"].get<int64_t>() / heads_);
    if (value_size.value_or(head_dim_) != head_dim_) {
      return fields_.Unsupported(
          Key("attention.value_length"),
          fmt::format("of {} where keys have {} is not built", *value_size, head_dim_));
    }
    config_["num_attention_heads"] = heads_;
    config_["num_key_value_heads"] = kv_heads.value_or(heads_);
    config_["head_dim"] = head_dim_;
    return absl::OkStatus();
  }

  absl::Status AddRotation(const GgufRopeFactors& factors) {
    GgufRotation rotation;
    ASSIGN_OR_RETURN(const auto theta, fields_.Real(Key("rope.freq_base")));
    ASSIGN_OR_RETURN(const auto dimensions, fields_.Integer(Key("rope.dimension_count")));
    rotation.theta = theta.value_or(kDefaultTheta);
    rotation.dimensions = dimensions.value_or(head_dim_);
    const auto positions = config_.find("max_position_embeddings");
    if (positions != config_.end() && positions->is_number()) {
      rotation.max_positions = positions->get<int64_t>();
    }
    if (rotation.dimensions != head_dim_ && head_dim_ > 0) {
      config_["partial_rotary_factor"] = PartialRotation(rotation.dimensions, head_dim_);
    }
    config_["rope_theta"] = rotation.theta;
    ASSIGN_OR_RETURN(config_["rope_scaling"], GgufRopeScaling(fields_, family_, rotation, factors));
    const Json& scaling = config_["rope_scaling"];
    if (scaling.is_object() && scaling["rope_type"] == "longrope") {
      // Phi-3 keeps it here.
      config_["original_max_position_embeddings"] = scaling["original_max_position_embeddings"];
    }
    return absl::OkStatus();
  }

  absl::Status AddVocabulary() {
    const StoredTensor* table = Find("model.embed_tokens.weight");
    if (table == nullptr) {
      return Error(Reason::kTensorMissing, fields_.file(), "tensor token_embd.weight is missing",
                   "fetch the file again");
    }
    config_["vocab_size"] = table->info.shape.front();
    config_["tie_word_embeddings"] = Find("lm_head.weight") == nullptr;
    for (const char* name : {"bos_token_id", "eos_token_id"}) {
      ASSIGN_OR_RETURN(const auto id, fields_.Integer(fmt::format("tokenizer.ggml.{}", name)));
      if (id) config_[name] = *id;
    }
    return absl::OkStatus();
  }

  // Gemma scales attention by a number of its own, which is not stored: by the
  // head's size, but for the largest model of a generation.
  absl::Status AddAttentionScale() {
    if (family_.layers_scaled_by_hidden < 0) return absl::OkStatus();
    const bool by_hidden = config_["num_hidden_layers"] == family_.layers_scaled_by_hidden;
    config_["query_pre_attn_scalar"] =
        by_hidden ? config_["hidden_size"].get<int64_t>() / heads_ : head_dim_;
    return absl::OkStatus();
  }

  void AddBiases() {
    if (family_.bias == GgufBias::kAttention || family_.bias == GgufBias::kAll) {
      config_["attention_bias"] = Find("model.layers.0.self_attn.q_proj.bias") != nullptr;
    }
    if (family_.bias == GgufBias::kAll) {
      config_["mlp_bias"] = Find("model.layers.0.mlp.down_proj.bias") != nullptr;
    }
  }

  const GgufFields& fields_;
  const GgufFamily& family_;
  const std::vector<StoredTensor>& tensors_;
  int64_t heads_ = 0;
  int64_t head_dim_ = 0;
  Json config_;
};

}  // namespace

absl::StatusOr<std::string> GgufConfig(const GgufFields& fields, const GgufFamily& family,
                                       const std::vector<StoredTensor>& tensors,
                                       const GgufRopeFactors& factors) {
  ASSIGN_OR_RETURN(const Json config, ConfigWriter(fields, family, tensors).Write(factors));
  return config.dump(2);
}

}  // namespace linchpin
