// What the program writes for people: colours where somebody looks, tables, and what went wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace caller::kernel::cli {

enum class Colour : std::uint8_t { none, red, green, yellow, blue, grey };

/// The text in that colour if the descriptor is a terminal that shows colours and the user has not said no (NO_COLOR);
/// else as it is.
std::string coloured(std::string text, Colour colour, int fd);

/// One place in a table.
struct Cell {
  std::string text;
  Colour colour = Colour::none;
  Cell(std::string t, Colour c = Colour::none) : text(std::move(t)), colour(c) {}
  Cell(const char* t) : text(t) {}
};

/// Writes columns as wide as they must be to standard output.
void print_table(const std::vector<std::vector<Cell>>& rows);

/// Writes `who: text` and the end of the line to standard error, `who` in the colour of errors.
void complain(std::string_view who, std::string_view text);

}  // namespace caller::kernel::cli
