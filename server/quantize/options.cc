#include "quantize/options.h"

#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

template <typename T>
struct Spelling {
  T value;
  std::string_view name;
};

constexpr Spelling<Scheme> kSchemes[] = {{Scheme::kW4A16, "w4a16"}};
constexpr Spelling<ScaleRule> kScaleRules[] = {{ScaleRule::kSigned, "signed"},
                                               {ScaleRule::kMinMax, "minmax"}};
constexpr Spelling<Preserve> kPreserves[] = {
    {Preserve::kTensor, "tensor"}, {Preserve::kScale, "scale"}, {Preserve::kNone, "none"}};
constexpr Spelling<int64_t> kGroupSizes[] = {
    {0, "auto"}, {32, "32"}, {64, "64"}, {128, "128"}, {-1, "channel"}};

template <typename T, size_t kCount>
std::string_view NameIn(const Spelling<T> (&table)[kCount], T value) {
  for (const Spelling<T>& row : table) {
    if (row.value == value) return row.name;
  }
  return "unknown";
}

template <typename T, size_t kCount>
absl::StatusOr<T> ParseIn(const Spelling<T> (&table)[kCount], std::string_view option,
                          std::string_view name) {
  std::vector<std::string_view> names;
  for (const Spelling<T>& row : table) {
    if (row.name == name) return row.value;
    names.push_back(row.name);
  }
  return Error(Reason::kOptionInvalid, option, fmt::format("'{}' is not known", name),
               fmt::format("use one of {}", fmt::join(names, ", ")));
}

}  // namespace

std::string_view NameOf(Scheme scheme) { return NameIn(kSchemes, scheme); }
std::string_view NameOf(ScaleRule rule) { return NameIn(kScaleRules, rule); }
std::string_view NameOf(Preserve preserve) { return NameIn(kPreserves, preserve); }
std::string_view GroupSizeName(int64_t group_size) { return NameIn(kGroupSizes, group_size); }

absl::StatusOr<Scheme> ParseScheme(std::string_view name) {
  return ParseIn(kSchemes, "scheme", name);
}
absl::StatusOr<ScaleRule> ParseScaleRule(std::string_view name) {
  return ParseIn(kScaleRules, "scale", name);
}
absl::StatusOr<Preserve> ParsePreserve(std::string_view name) {
  return ParseIn(kPreserves, "preserve", name);
}
absl::StatusOr<int64_t> ParseGroupSize(std::string_view text) {
  return ParseIn(kGroupSizes, "group-size", text);
}

}  // namespace linchpin
