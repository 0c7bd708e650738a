// Runs a fuzz target once over every file of the given directories, in place of
// libFuzzer's main; fails if there is none.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::string seed{std::istreambuf_iterator<char>(stream),
                             std::istreambuf_iterator<char>()};
      std::cout << entry.path().filename().string() << std::endl;
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(seed.data()), seed.size());
      ++count;
    }
  }
  std::cout << count << " seeds\n";
  return count > 0 ? 0 : 1;
}
