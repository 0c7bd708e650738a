#include "client/html.h"

#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --line: #8886; --faint: #8883 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { margin: 1.5rem 0 .3rem; font-size: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--faint); text-align: right }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
svg { width: 100%; max-width: 46rem; height: auto; font-size: 12px }
svg text { fill: currentColor } svg .axis { stroke: currentColor; opacity: .6 }
svg .grid { stroke: currentColor; opacity: .15 }
)css";

std::string Row(std::string_view cell, const std::vector<std::string>& texts) {
  std::string row = "<tr>";
  for (const std::string& text : texts) row += HtmlElement(cell, text);
  return row + "</tr>\n";
}

}  // namespace

std::string EscapedHtml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string HtmlElement(std::string_view tag, std::string_view text) {
  return fmt::format("<{0}>{1}</{0}>", tag, EscapedHtml(text));
}

std::string HtmlTable(const std::vector<std::string>& headers,
                      const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return {};
  std::string table = "<table>\n<thead>" + Row("th", headers) + "</thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) table += Row("td", row);
  return table + "</tbody>\n</table>\n";
}

std::string HtmlPage(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n{}\n<style>{}</style>\n</head>\n"
      "<body>\n{}\n{}</body>\n</html>\n",
      HtmlElement("title", title), kStyle, HtmlElement("h1", title), body);
}

}  // namespace linchpin
