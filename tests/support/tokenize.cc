// Prints the token ids of texts, a line for each: tokenize TOKENIZER_JSON < TEXTS,
// with a NUL byte between one text and the next.  For tests that compare them
// with another implementation's.
#include <cstdint>
#include <iostream>
#include <string>

#include "checkpoint/tokenizer.h"
#include "tests/support/shared.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenize TOKENIZER_JSON < TEXTS\n";
    return 2;
  }
  const auto tokenizer = linchpin::Tokenizer::Parse(argv[1], linchpin::ReadFileText(argv[1]));
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
