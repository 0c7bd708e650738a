#include "client/report_figures.h"

#include <cmath>
#include <functional>

#include "client/html.h"
#include "client/line_chart.h"

namespace linchpin {
namespace {

std::vector<double> Numbers(const std::vector<JsonValue>& items,
                            const std::function<double(const JsonValue&)>& number) {
  std::vector<double> numbers;
  for (const JsonValue& item : items) numbers.push_back(number(item));
  return numbers;
}

// |value| of each item's field.
std::vector<double> Magnitudes(const std::vector<JsonValue>& items, const char* field) {
  return Numbers(items, [field](const JsonValue& item) {
    const JsonValue value = item[field];
    return std::fabs(value.is_object() ? value["value"].Number() : value.Number());
  });
}

std::vector<double> Plain(const std::vector<JsonValue>& items, const char* field) {
  return Numbers(items, [field](const JsonValue& item) { return item[field].Number(); });
}

std::string LayerCharts(const std::vector<JsonValue>& layers) {
  const std::vector<double> places = Plain(layers, "layer");
  return LineChart({.title = "Largest magnitude at every down_proj",
                    .x_name = "layer",
                    .places = places,
                    .lines = {{"input", Magnitudes(layers, "down_proj_input")},
                              {"output", Magnitudes(layers, "down_proj_output")}},
                    .logarithmic = true}) +
         LineChart({.title = "Residual stream after every layer",
                    .x_name = "layer",
                    .places = places,
                    .lines = {{"largest", Magnitudes(layers, "residual")},
                              {"median", Numbers(layers,
                                                 [](const JsonValue& layer) {
                                                   return layer["residual"]["median_abs"].Number();
                                                 })}},
                    .logarithmic = true});
}

std::string FrequentTokens(const JsonValue& study) {
  std::vector<std::vector<std::string>> rows;
  for (const JsonValue& token : study["frequent_tokens"].Items()) {
    const double before = token["probability"].Number();
    const double after = token["probability_without"].Number();
    rows.push_back({token["id"].Text(), token["count"].Text(), fmt::format("{:.3g}", before),
                    fmt::format("{:.3g}", after), fmt::format("x{:.2f}", after / before)});
  }
  if (rows.empty()) return {};
  return HtmlElement("h3", "Probability of frequent tokens") +
         HtmlTable({"token id", "count", "with", "without the super weights", "shift"}, rows);
}

std::string Interventions(const JsonValue& study) {
  std::vector<std::vector<std::string>> rows;
  for (const JsonValue& row : study["rows"].Items()) {
    rows.push_back({row["name"].Text(), row["pruned"].Text(),
                    fmt::format("{:.4f}", row["loss"].Number()),
                    fmt::format("{:.2f}", row["perplexity"].Number()),
                    fmt::format("{:.4f}", row["kl"].Number())});
  }
  if (rows.empty()) return {};
  return HtmlElement("h3", "What pruning does") +
         HtmlTable({"", "weights pruned", "loss", "perplexity", "KL"}, rows);
}

std::string StudyCharts(const JsonValue& study) {
  const std::vector<JsonValue> layers = study["layers"].Items();
  const std::vector<JsonValue> scales = study["scales"].Items();
  return LineChart({.title = "Residual stream with and without the super weights",
                    .x_name = "layer",
                    .places = Plain(layers, "layer"),
                    .lines = {{"with", Magnitudes(layers, "residual")},
                              {"without", Magnitudes(layers, "residual_without")}},
                    .logarithmic = true}) +
         LineChart({.title = "Perplexity over the super weights' scale",
                    .x_name = "scale",
                    .places = Plain(scales, "scale"),
                    .lines = {{"perplexity", Plain(scales, "perplexity")}},
                    .logarithmic = true}) +
         FrequentTokens(study) + Interventions(study);
}

}  // namespace

std::string DetectionFigures(const JsonValue& detection) {
  return LayerCharts(detection["layers"].Items()) + StudyCharts(detection["study"]);
}

}  // namespace linchpin
