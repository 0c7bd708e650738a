#include "client/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "client/amounts.h"
#include "client/errors.h"
#include "client/html.h"
#include "client/local_files.h"
#include "client/report_figures.h"

namespace linchpin {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

constexpr uint64_t kLargestDocument = uint64_t{256} << 20;
constexpr size_t kTensorsShown = 20;

// A document that was read.  `detection` lies in it.
// What may throw in moving it is an assertion of the JSON library.
struct Document {    // NOLINT(bugprone-exception-escape)
  std::string name;  // of the file, as it was given
  Json json;

  JsonValue root() const { return JsonValue(&json); }
  bool is_manifest() const { return root()["manifest_version"].exists(); }
  JsonValue detection() const { return is_manifest() ? root()["detection"] : root(); }
};

// Of a manifest that is named by its directory, too.
std::filesystem::path PathOf(const std::string& file) {
  std::error_code ignored;
  const std::filesystem::path path(file);
  return std::filesystem::is_directory(path, ignored) ? path / "linchpin.json" : path;
}

grpc::Status ReadDocument(const std::string& file, Document& document) {
  const std::filesystem::path path = PathOf(file);
  std::string text;
  const grpc::Status status = ReadLocalFile(path, kLargestDocument, text);
  if (!status.ok()) return status;
  document.name = file;
  document.json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.detection()["verdict"].exists() || document.is_manifest()) return status;
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "CONFIG_INVALID", path.string(),
                    "it is neither a manifest nor what detect --out writes",
                    "name a linchpin.json, its directory, or a document of detect");
}

std::string SizeOf(const JsonValue& bytes) {
  return bytes.exists() ? SizeText(bytes.Number()) : "-";
}

std::vector<std::string> OverviewRow(const Document& document) {
  const JsonValue options = document.root()["options"];
  const JsonValue output = document.root()["output"];
  const double ratio = output["bytes_in"].Number() / output["bytes_out"].Number();
  return {document.name,
          document.detection()["verdict"].Text(),
          fmt::format("{}", document.detection()["super_weights"].Items().size()),
          options["scheme"].Text(),
          options["scale"].Text(),
          options["preserve"].Text(),
          SizeOf(output["bytes_in"]),
          SizeOf(output["bytes_out"]),
          std::isfinite(ratio) ? fmt::format("{:.2f}", ratio) : "-"};
}

std::string Overview(const std::vector<Document>& documents) {
  Rows rows;
  for (const Document& document : documents) rows.push_back(OverviewRow(document));
  return HtmlTable({"", "verdict", "super weights", "scheme", "scale", "preserve", "before",
                    "after", "times smaller"},
                   rows);
}

std::string PlaceOf(const JsonValue& weight) {
  return fmt::format("{}[{}, {}]", weight["tensor"].Text(), weight["row"].Text(),
                     weight["column"].Text());
}

std::string SuperWeights(const JsonValue& detection) {
  const std::vector<JsonValue> alone = detection["proof"]["alone"].Items();
  const std::vector<JsonValue> weights = detection["super_weights"].Items();
  Rows rows;
  for (size_t i = 0; i < weights.size(); ++i) {
    const JsonValue& weight = weights[i];
    const JsonValue arm = i < alone.size() ? alone[i] : JsonValue(nullptr);
    rows.push_back({PlaceOf(weight), weight["value"].Text(), weight["input"].Text(),
                    weight["output"].Text(), weight["share"].Text(), weight["persistence"].Text(),
                    arm["perplexity_ratio"].Text(), arm["kl"].Text(), weight["class"].Text()});
  }
  if (rows.empty()) return HtmlElement("p", "No super weight was found.");
  return HtmlElement("h3", "Super weights") +
         HtmlTable({"weight", "value", "input", "output", "share", "persistence",
                    "perplexity ratio when zeroed", "KL", "class"},
                   rows);
}

std::string Kept(const JsonValue& manifest) {
  Rows rows;
  for (const JsonValue& weight : manifest["super_weights"].Items()) {
    rows.push_back({PlaceOf(weight), weight["value"].Text(), weight["stored_value"].Text(),
                    weight["kept"].Text(), weight["exact"].Text()});
  }
  if (rows.empty()) return {};
  return HtmlElement("h3", "What the output reads back") +
         HtmlTable({"weight", "source", "output", "kept", "bit for bit"}, rows);
}

// The tensors that lost most, by the root mean square of their error.
std::string LargestErrors(const JsonValue& manifest) {
  std::vector<JsonValue> tensors;
  for (const JsonValue& tensor : manifest["tensors"].Items()) {
    if (tensor["rms_error"].Number() > 0) tensors.push_back(tensor);
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const JsonValue& a, const JsonValue& b) {
    return a["rms_error"].Number() > b["rms_error"].Number();
  });
  Rows rows;
  for (const JsonValue& tensor : tensors) {
    if (rows.size() == kTensorsShown) break;
    rows.push_back({tensor["name"].Text(), tensor["scheme"].Text(), tensor["group_size"].Text(),
                    tensor["scale"].Text(), tensor["rms_error"].Text(), tensor["max_error"].Text(),
                    SizeOf(tensor["bytes_out"])});
  }
  if (rows.empty()) return {};
  return HtmlElement("h3", "Largest errors of tensors") +
         HtmlTable({"tensor", "scheme", "group", "scale", "RMS error", "largest", "size"}, rows);
}

std::string Notes(const JsonValue& notes) {
  std::string list;
  for (const JsonValue& note : notes.Items()) list += HtmlElement("li", note.Text()) + "\n";
  return list.empty() ? list : "<ul>\n" + list + "</ul>\n";
}

std::string Section(const Document& document) {
  const JsonValue detection = document.detection();
  std::string section = HtmlElement("h2", document.name) + "\n";
  section += Notes(detection["notes"]) + SuperWeights(detection) + DetectionFigures(detection);
  if (!document.is_manifest()) return section;
  return section + Kept(document.root()) + LargestErrors(document.root()) +
         Notes(document.root()["notes"]);
}

}  // namespace

grpc::Status WriteReport(const std::vector<std::string>& files, const std::string& out) {
  std::vector<Document> documents;
  for (const std::string& file : files) {
    const grpc::Status status = ReadDocument(file, documents.emplace_back());
    if (!status.ok()) return status;
    if (std::error_code ignored; std::filesystem::equivalent(PathOf(file), out, ignored)) {
      return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", out,
                        "the page would replace what it is made from", "name another file");
    }
  }
  std::string body = Overview(documents);
  for (const Document& document : documents) body += Section(document);
  return WriteLocalFile(out, HtmlPage("Linchpin", body));
}

}  // namespace linchpin
