#include "quantize/equalization.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>

#include "fmt/format.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr double kPower = 0.3;       // of the root mean square
constexpr double kLargest = 2;       // exponent
constexpr double kLeastPart = 1e-8;  // of the largest mean square, that a channel counts as

using RowsByName = std::map<std::string_view, PlanRow*>;

PlanRow* FindRow(const RowsByName& rows, std::string_view name) {
  const auto found = rows.find(name);
  return found == rows.end() ? nullptr : found->second;
}

// A layer that is kept, or whose super weight must be stored as it is, is not scaled.
bool MayScale(const PlanRow* row) {
  return row != nullptr && row->quantized && row->scale == ScaleRule::kImportance &&
         row->pinned.empty() && row->held_out.empty();
}

bool MayScale(const NormedLayers& normed, const RowsByName& rows, const Importance* importance) {
  const auto known = [&](const std::string& name) {
    return importance == nullptr || FindImportance(*importance, name) != nullptr;
  };
  return std::all_of(normed.layers.begin(), normed.layers.end(),
                     [&](const std::string& name) { return MayScale(FindRow(rows, name)); }) &&
         std::all_of(normed.norm.begin(), normed.norm.end(), [&](const std::string& name) {
           const PlanRow* row = FindRow(rows, name);
           return row != nullptr && IsFloatWeight(row->source.info.dtype) && known(name);
         });
}

}  // namespace

void AddNorms(absl::Span<const NormedLayers> normed, Importance& importance) {
  for (const NormedLayers& each : normed) {
    const auto first = importance.find(each.layers.front());
    if (first == importance.end()) continue;
    const auto statistics = first->second;
    for (const std::string& name : each.layers) importance[name] = statistics;
    for (const std::string& name : each.norm) importance[name] = statistics;
  }
}

void PlanEqualization(absl::Span<const NormedLayers> normed, const Importance* importance,
                      Plan& plan) {
  RowsByName rows;
  for (PlanRow& row : plan.rows) rows[row.source.info.name] = &row;
  int scaled = 0;
  for (const NormedLayers& each : normed) {
    if (!MayScale(each, rows, importance)) continue;
    for (const std::string& name : each.layers) rows[name]->equalized = Equalized::kLayer;
    for (const std::string& name : each.norm) rows[name]->equalized = Equalized::kNorm;
    ++scaled;
  }
  plan.notes.push_back(
      scaled == 0
          ? "no norm could be equalized: none has a gain of its own that linear layers alone "
            "read, all of them quantized"
          : fmt::format("{} norms, and the layers that read them, are scaled by powers of two, "
                        "which cancel",
                        scaled));
}

std::vector<int> ExponentsOf(const InputStatistics& statistics) {
  const std::vector<float>& squares = statistics.mean_squares;
  std::vector<int> exponents(squares.size(), 0);
  const double largest = squares.empty() ? 0 : *std::max_element(squares.begin(), squares.end());
  if (!(largest > 0) || !std::isfinite(largest)) return exponents;
  std::vector<double> logs;
  double sum = 0;
  for (const float square : squares) {
    logs.push_back(std::log2(std::max<double>(square, largest * kLeastPart)));
    sum += logs.back();
  }
  const double mean = sum / static_cast<double>(logs.size());
  for (size_t i = 0; i < logs.size(); ++i) {
    const double exponent = std::nearbyint(kPower / 2 * (logs[i] - mean));
    exponents[i] = static_cast<int>(std::clamp(exponent, -kLargest, kLargest));
  }
  return exponents;
}

std::vector<float> FactorsOf(const PlanRow& row, const Importance* importance) {
  if (row.equalized == Equalized::kNo || importance == nullptr) return {};
  const InputStatistics* statistics = FindImportance(*importance, row.source.info.name);
  if (statistics == nullptr) return {};
  const int sign = row.equalized == Equalized::kLayer ? 1 : -1;
  std::vector<float> factors;
  for (const int exponent : ExponentsOf(*statistics)) {
    factors.push_back(std::ldexp(1.0F, sign * exponent));
  }
  return factors;
}

void ScaleColumns(DType dtype, absl::Span<const float> factors, int64_t rows, std::byte* weights) {
  const auto columns = static_cast<int64_t>(factors.size());
  std::vector<float> values(factors.size());
  for (int64_t row = 0; row < rows; ++row) {
    std::byte* bytes = weights + row * columns * SizeOf(dtype);
    WidenToFloat(dtype, bytes, columns, values.data());
    for (size_t i = 0; i < factors.size(); ++i) values[i] *= factors[i];
    NarrowFromFloat(dtype, values.data(), columns, bytes);
  }
}

}  // namespace linchpin
