#include "client/study_tables.h"

#include <vector>

#include "client/amounts.h"
#include "client/tables.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace linchpin {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

// A name or a number; null stands for what is not finite.
std::string Text(const Json& object, const char* key, int digits = 4) {
  const Json value = object.value(key, Json());
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? fmt::format("{:.{}g}", value.get<double>(), digits) : "-";
}

std::string Ratio(const Json& object) {
  const Json value = object.value("perplexity_ratio", Json());
  return value.is_number() ? RatioText(value.get<double>()) : "-";
}

// A table with one row per element of a list, each made by `row`; empty for an empty list.
template <typename Row>
std::string Table(const Json& study, const char* key, std::vector<std::string> head, Row row) {
  const Json list = study.value(key, Json());
  Rows rows = {std::move(head)};
  for (const Json& item : list) {
    if (item.is_object()) rows.push_back(row(item));
  }
  return rows.size() > 1 ? TableText(rows) : std::string();
}

std::string TablesOf(const Json& study) {
  std::string text = Table(
      study, "rows", {"study", "pruned", "perplexity", "ratio", "divergence"}, [](const Json& row) {
        return std::vector<std::string>{Text(row, "name"), Text(row, "pruned", 9),
                                        Text(row, "perplexity"), Ratio(row), Text(row, "kl")};
      });
  text += Table(study, "scales", {"super weights x", "perplexity", "ratio", "divergence"},
                [](const Json& row) {
                  return std::vector<std::string>{Text(row, "scale"), Text(row, "perplexity"),
                                                  Ratio(row), Text(row, "kl")};
                });
  text += Table(
      study, "layers", {"layer", "down_proj input", "output", "residual", "without super weights"},
      [](const Json& row) {
        return std::vector<std::string>{Text(row, "layer"), Text(row, "down_proj_input"),
                                        Text(row, "down_proj_output"), Text(row, "residual"),
                                        Text(row, "residual_without")};
      });
  text += Table(study, "frequent_tokens",
                {"token", "count", "probability", "without super weights"}, [](const Json& row) {
                  return std::vector<std::string>{Text(row, "id", 9), Text(row, "count", 9),
                                                  Text(row, "probability"),
                                                  Text(row, "probability_without")};
                });
  return text;
}

}  // namespace

std::string StudyText(std::string_view document) {
  const Json json = Json::parse(document, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return {};
  const Json detection = json.value("detection", json);
  const Json study = detection.is_object() ? detection.value("study", Json()) : Json();
  return study.is_object() ? TablesOf(study) : std::string();
}

}  // namespace linchpin
