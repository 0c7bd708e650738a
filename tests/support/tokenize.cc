// Prints the token ids of texts, a line for each: tokenize SOURCE < TEXTS, with a
// NUL byte between one text and the next; SOURCE is a tokenizer.json or a GGUF
// file.  For tests that compare them with another implementation's.
#include <cstdint>
#include <iostream>
#include <string>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/tokenizer.h"
#include "storage/local_storage.h"
#include "tests/support/shared.h"

namespace {

absl::StatusOr<std::string> TokenizerText(const std::string& path) {
  if (!path.ends_with(".gguf")) return linchpin::ReadFileText(path);
  ASSIGN_OR_RETURN(const auto storage, linchpin::LocalStorage::Create({{"/"}, {}, true}));
  ASSIGN_OR_RETURN(const auto checkpoint, linchpin::Checkpoint::Open(*storage, path));
  return checkpoint.TokenizerText();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenize SOURCE < TEXTS\n";
    return 2;
  }
  const auto text = TokenizerText(argv[1]);
  if (!text.ok()) {
    std::cerr << text.status() << "\n";
    return 1;
  }
  const auto tokenizer = linchpin::Tokenizer::Parse(argv[1], *text);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  for (std::string text; std::getline(std::cin, text, '\0');) {
    const auto ids = tokenizer->Encode(text);
    if (!ids.ok()) {
      std::cerr << ids.status() << "\n";
      return 1;
    }
    for (const int32_t id : *ids) std::cout << id << " ";
    std::cout << "\n";
  }
  return 0;
}
