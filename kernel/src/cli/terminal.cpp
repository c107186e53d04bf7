#include "terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace caller::kernel::cli {

namespace {

bool has_colours(int fd) {
  const char* const refused = std::getenv("NO_COLOR");
  const char* const kind = std::getenv("TERM");
  return ::isatty(fd) != 0 && !(refused && *refused) && kind && *kind && std::string_view(kind) != "dumb";
}

const char* code(Colour colour) {
  switch (colour) {
    case Colour::red:
      return "\033[31m";
    case Colour::green:
      return "\033[32m";
    case Colour::yellow:
      return "\033[33m";
    case Colour::blue:
      return "\033[34m";
    case Colour::grey:
      return "\033[90m";
    case Colour::none:
      break;
  }
  return "";
}

}  // namespace

std::string coloured(std::string text, Colour colour, int fd) {
  if (colour == Colour::none || !has_colours(fd)) return text;
  return code(colour) + std::move(text) + "\033[0m";
}

void print_table(const std::vector<std::vector<Cell>>& rows) {
  std::vector<std::size_t> width;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (width.size() <= i) width.push_back(0);
      width[i] = std::max(width[i], row[i].text.size());
    }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += coloured(row[i].text, row[i].colour, STDOUT_FILENO);
      if (i + 1 < row.size()) line += std::string(width[i] - row[i].text.size() + 2, ' ');
    }
    std::cout << line << '\n';
  }
}

void complain(std::string_view who, std::string_view text) {
  std::cout.flush();
  std::cerr << coloured(std::string(who) + ":", Colour::red, STDERR_FILENO) + " " + std::string(text) + "\n";
}

}  // namespace caller::kernel::cli
