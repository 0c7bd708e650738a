// Prints what the server's JSON reader makes of documents, a line for each: read_json < DOCUMENTS,
// with a NUL byte between one document and the next.  A line is the document again, compact, or
// "!" and why it is refused.  For tests that compare it with another implementation.
#include <iostream>
#include <string>

#include "format/json.h"

int main() {
  for (std::string text; std::getline(std::cin, text, '\0');) {
    const auto json = linchpin::ParseJson("document", text, linchpin::Reason::kConfigInvalid);
    std::cout << (json.ok() ? json->dump() : "!" + std::string(json.status().message())) << "\n";
  }
  return 0;
}
