#include "client/enum_names.h"

#include <bit>
#include <cctype>
#include <cstdint>

namespace linchpin {
namespace {

using google::protobuf::EnumDescriptor;

// "SCALE_RULE_MINMAX" is "minmax": what all values begin with is left out, as
// in the name of the one that is 0, "SCALE_RULE_UNSPECIFIED".
std::string Spelled(const EnumDescriptor& type, int number) {
  constexpr std::string_view kZero = "UNSPECIFIED";
  const auto* value = type.FindValueByNumber(number);
  if (value == nullptr || number == 0) return "";
  std::string name = value->name().substr(type.FindValueByNumber(0)->name().size() - kZero.size());
  // Schemes are called as GGUF calls its types.
  const char separator = &type == v1::Scheme_descriptor() ? '_' : '-';
  for (char& c : name) c = c == '_' ? separator : static_cast<char>(std::tolower(c));
  return name;
}

std::vector<std::string> AllOf(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) names.push_back(Spelled(type, type.value(i)->number()));
  }
  return names;
}

int NumberOf(const EnumDescriptor& type, std::string_view name) {
  for (int i = 0; i < type.value_count(); ++i) {
    const int number = type.value(i)->number();
    if (number != 0 && Spelled(type, number) == name) return number;
  }
  return 0;
}

}  // namespace

std::string_view NameOf(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_SINGLE:
      return "single";
    case v1::VERDICT_SEVERAL:
      return "several";
    case v1::VERDICT_DISTRIBUTED:
      return "distributed";
    case v1::VERDICT_NONE:
      return "none";
    default:
      return "unproven";
  }
}

std::string_view NameOf(v1::WeightClass weight_class) {
  switch (weight_class) {
    case v1::WEIGHT_CLASS_CRITICAL:
      return "critical";
    case v1::WEIGHT_CLASS_JOINT:
      return "joint";
    case v1::WEIGHT_CLASS_INERT:
      return "inert";
    default:
      return "unproven";
  }
}

std::string NameOf(v1::Preserve preserve) { return Spelled(*v1::Preserve_descriptor(), preserve); }
std::string NameOf(v1::Scheme scheme) { return Spelled(*v1::Scheme_descriptor(), scheme); }
std::string NameOf(v1::ScaleRule rule) { return Spelled(*v1::ScaleRule_descriptor(), rule); }

std::vector<std::string> FormatNames() { return AllOf(*v1::OutputFormat_descriptor()); }
std::vector<std::string> PreserveNames() { return AllOf(*v1::Preserve_descriptor()); }
std::vector<std::string> SchemeNames() { return AllOf(*v1::Scheme_descriptor()); }
std::vector<std::string> ScaleRuleNames() { return AllOf(*v1::ScaleRule_descriptor()); }

v1::OutputFormat FormatNamed(std::string_view name) {
  return static_cast<v1::OutputFormat>(NumberOf(*v1::OutputFormat_descriptor(), name));
}
v1::Preserve PreserveNamed(std::string_view name) {
  return static_cast<v1::Preserve>(NumberOf(*v1::Preserve_descriptor(), name));
}
v1::Scheme SchemeNamed(std::string_view name) {
  return static_cast<v1::Scheme>(NumberOf(*v1::Scheme_descriptor(), name));
}
v1::ScaleRule ScaleRuleNamed(std::string_view name) {
  return static_cast<v1::ScaleRule>(NumberOf(*v1::ScaleRule_descriptor(), name));
}

bool IsExact(const v1::KeptWeight& weight) {
  return std::bit_cast<uint32_t>(weight.source_value()) ==
         std::bit_cast<uint32_t>(weight.stored_value());
}

}  // namespace linchpin
