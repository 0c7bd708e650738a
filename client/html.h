// Pieces of an HTML page, and nothing that could be mistaken for markup in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace linchpin {

// The text with &, <, >, " and ' as entities.
std::string EscapedHtml(std::string_view text);

// <TAG>text</TAG>, the text escaped.
std::string HtmlElement(std::string_view tag, std::string_view text);

// A table of texts under their headers, first column set left, the others right;
// empty if there are no rows.
std::string HtmlTable(const std::vector<std::string>& headers,
                      const std::vector<std::vector<std::string>>& rows);

// The whole page around `body`, which is HTML: one file that loads nothing.
std::string HtmlPage(std::string_view title, std::string_view body);

}  // namespace linchpin
