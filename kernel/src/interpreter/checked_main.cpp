// caller_prelude_checked ARGS PCH OBJECT: compiles the prelude's algorithms with checks for interrupts. Runs when the
// project is built or installed.
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "checked.hpp"
#include "compiler.hpp"

int main(int argc, char** argv) {
  using namespace caller::kernel;
  if (argc != 4) {
    std::cerr << "usage: caller_prelude_checked ARGS PCH OBJECT\n";
    return 2;
  }
  try {
    std::vector<std::string> args;
    std::ifstream in(argv[1]);
    for (std::string line; std::getline(in, line);)
      if (!line.empty()) args.push_back(line);
    for (const char* f : kCellFlags) args.emplace_back(f);
    args.emplace_back("-include-pch");
    args.emplace_back(argv[2]);
    Compiler compiler(args);
    const std::string object = compiler.checked_prelude();
    std::ofstream out(argv[3], std::ios::binary);
    if (!out.write(object.data(), static_cast<std::streamsize>(object.size())).flush())
      throw std::runtime_error(std::string("cannot write ") + argv[3]);
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "caller_prelude_checked: " << e.what() << '\n';
    return 1;
  }
}
