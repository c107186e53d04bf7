// Texts as values, strictly.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <caller/task/config.hpp>

namespace caller::task {

std::string_view name(ConfigSource source) noexcept {
  constexpr std::array<std::string_view, 9> kNames{"default",
                                                   "option of the program",
                                                   "file in the working directory",
                                                   "file",
                                                   "file named by CALLER__FILEPATH",
                                                   "environment",
                                                   "environment, for the class",
                                                   "environment, for the task",
                                                   "assigned"};
  return kNames[static_cast<std::size_t>(source)];
}

std::string ConfigText::text() const {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}
std::string ConfigText::place() const { return "(" + (where.empty() ? std::string(task::name(source)) : where) + ")"; }

namespace detail {

void refuse(const ConfigText& found, const std::string& expected) {
  throw ConfigError(found.name + ": expected " + expected + ", found \"" + found.text() + "\" " + found.place());
}

namespace {

const std::string& only(const ConfigText& found, const std::string& expected) {
  if (found.items.size() != 1 || found.list) refuse(found, expected);
  return found.items.front();
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

struct Unit {
  std::string_view name;
  std::int64_t nanoseconds;
};
constexpr Unit kUnits[] = {{"ns", 1},
                           {"us", 1'000},
                           {"ms", 1'000'000},
                           {"s", 1'000'000'000},
                           {"min", 60'000'000'000},
                           {"h", 3'600'000'000'000},
                           {"d", 86'400'000'000'000}};

}  // namespace

bool read_boolean(const ConfigText& found) {
  constexpr auto kExpected = "true or false";
  const std::string text = lower(only(found, kExpected));
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  refuse(found, kExpected);
}

std::int64_t read_integer(const ConfigText& found, std::int64_t least, std::int64_t most) {
  const auto expected = [&] {
    std::string out = "a whole number";
    if (least > std::numeric_limits<std::int32_t>::min()) out += " of at least " + std::to_string(least);
    if (most < std::numeric_limits<std::int32_t>::max()) out += " and at most " + std::to_string(most);
    return out;
  };
  const std::string& text = only(found, expected());
  std::int64_t value = 0;
  const char* const first = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(first, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    refuse(found, expected());
  return value;
}

double read_real(const ConfigText& found) {
  const std::string& text = only(found, "a number");
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) refuse(found, "a number");
  return value;
}

std::string read_text(const ConfigText& found) { return only(found, "one text"); }

std::vector<std::string> read_list(const ConfigText& found) {
  if (found.list) return found.items;
  // In a variable a list has commas between.
  std::vector<std::string> out;
  const std::string text = found.text();
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    std::string item = text.substr(at, end - at);
    item.erase(0, item.find_first_not_of(' '));
    item.erase(item.find_last_not_of(' ') + 1);
    if (!item.empty()) out.push_back(std::move(item));
    at = end + 1;
  }
  return out;
}

std::chrono::nanoseconds read_duration(const ConfigText& found) {
  constexpr auto kExpected = "a time with its unit, as 250ms, 10s, 5min or 24h";
  const std::string& text = only(found, kExpected);
  if (text == "0") return std::chrono::nanoseconds(0);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0)) refuse(found, kExpected);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  for (const Unit& u : kUnits)
    if (unit == u.name) {
      const double all = value * static_cast<double>(u.nanoseconds);
      if (!(all < 9.2e18)) refuse(found, "a time of less than 292 years");
      return std::chrono::nanoseconds(std::llround(all));
    }
  refuse(found, kExpected);
}

std::string duration_text(std::chrono::nanoseconds time) {
  const std::int64_t n = time.count();
  if (n == 0) return "0s";
  const Unit* best = &kUnits[0];
  for (const Unit& u : kUnits)
    if (n % u.nanoseconds == 0 && u.name != "d") best = &u;
  return std::to_string(n / best->nanoseconds) + std::string(best->name);
}

std::string real_text(double value) {
  std::array<char, 32> text;
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::string(text.data(), end) : "nan";
}

}  // namespace detail
}  // namespace caller::task
