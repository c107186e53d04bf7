#include "cron.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <caller/task/error.hpp>

namespace caller::task::detail {

namespace {

struct Field {
  std::string_view name;
  int least, most;
  std::string_view names;  // three letters each, from `least` on
};
constexpr std::array<Field, 5> kFields{{{"minute", 0, 59, ""},
                                        {"hour", 0, 23, ""},
                                        {"day of month", 1, 31, ""},
                                        {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
                                        {"day of week", 0, 7, "sunmontuewedthufrisat"}}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kShort{{{"@yearly", "0 0 1 1 *"},
                                                                               {"@annually", "0 0 1 1 *"},
                                                                               {"@monthly", "0 0 1 * *"},
                                                                               {"@weekly", "0 0 * * 0"},
                                                                               {"@daily", "0 0 * * *"},
                                                                               {"@midnight", "0 0 * * *"},
                                                                               {"@hourly", "0 * * * *"}}};

class FieldReader {
public:
  FieldReader(const std::string& whole, const Field& field) : whole_(whole), field_(field) {}

  /// `*`, `a`, `a-b`, each with `/step`, and lists of them.
  template <std::size_t N>
  void read(std::string_view text, std::bitset<N>& into) const {
    for (;;) {
      const std::size_t comma = std::min(text.find(','), text.size());
      part(text.substr(0, comma), into);
      if (comma == text.size()) return;
      text.remove_prefix(comma + 1);
    }
  }

private:
  [[noreturn]] void fail(const std::string& why) const {
    throw ConfigError("cron \"" + whole_ + "\": " + std::string(field_.name) + ": " + why);
  }

  template <std::size_t N>
  void part(std::string_view text, std::bitset<N>& into) const {
    if (text.empty()) fail("a part is empty");
    int step = 1;
    const std::size_t slash = text.find('/');
    if (slash != text.npos) {
      const auto given = digits(text.substr(slash + 1));
      if (!given || *given < 1 || *given > field_.most) fail("\"" + std::string(text) + "\": no step");
      step = *given;
    }
    const std::string_view range = text.substr(0, slash);
    int from = field_.least, to = field_.most;
    if (range != "*") {
      const std::size_t dash = range.find('-');
      from = value(range.substr(0, dash));
      to = dash != range.npos ? value(range.substr(dash + 1)) : slash != text.npos ? field_.most : from;
      if (dash != range.npos && to == 0 && field_.most == 7 && from > 0) to = 7;  // until Sunday
      if (from > to) fail("\"" + std::string(range) + "\" ends before it begins");
    } else if (field_.most == 7) {
      to = 6;
    }
    for (int i = from; i <= to; i += step) into.set(static_cast<std::size_t>(field_.most == 7 ? i % 7 : i));
  }

  static std::optional<int> digits(std::string_view text) {
    if (text.empty() || text.size() > 4) return std::nullopt;
    int out = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      out = out * 10 + (c - '0');
    }
    return out;
  }

  int value(std::string_view text) const {
    if (const auto number = digits(text)) {
      if (*number < field_.least || *number > field_.most)
        fail(std::string(text) + " is not from " + std::to_string(field_.least) + " to " + std::to_string(field_.most));
      return *number;
    }
    if (text.size() == 3) {
      std::string lower(text);
      for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
      for (std::size_t i = 0; i < field_.names.size(); i += 3)
        if (field_.names.substr(i, 3) == lower) return field_.least + static_cast<int>(i / 3);
    }
    fail("\"" + std::string(text) + "\" is no number" + (field_.names.empty() ? "" : " and no name"));
  }

  const std::string& whole_;
  const Field& field_;
};

}  // namespace

CronSchedule::CronSchedule(const std::string& given, const std::string& zone) : zone_(Zone::named(zone)) {
  std::string_view text = given;
  for (const auto& [name, meaning] : kShort)
    if (text == name) text = meaning;
  std::vector<std::string_view> parts;
  constexpr std::string_view kSpace = " \t";
  while (!text.empty()) {
    const std::size_t begin = text.find_first_not_of(kSpace);
    if (begin == text.npos) break;
    text.remove_prefix(begin);
    const std::size_t end = std::min(text.find_first_of(kSpace), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  if (parts.size() != kFields.size())
    throw ConfigError("cron \"" + given + "\": " + std::to_string(parts.size()) +
                      " fields instead of five: minute, hour, day of month, month, day of week");
  FieldReader(given, kFields[0]).read(parts[0], minutes_);
  FieldReader(given, kFields[1]).read(parts[1], hours_);
  FieldReader(given, kFields[2]).read(parts[2], days_);
  FieldReader(given, kFields[3]).read(parts[3], months_);
  FieldReader(given, kFields[4]).read(parts[4], weekdays_);
  any_hour_ = parts[1].starts_with('*');
  any_day_ = parts[2].starts_with('*');
  any_weekday_ = parts[4].starts_with('*');
  if (!search(Seconds(std::chrono::sys_days(std::chrono::year(2024) / 1 / 1))))
    throw ConfigError("cron \"" + given + "\": there is no such day");
}

/// If both the day of the month and that of the week are given, either will do.
bool CronSchedule::is_day(std::chrono::local_days day) const {
  const std::chrono::year_month_day date(day);
  if (!months_[static_cast<unsigned>(date.month())]) return false;
  const bool by_day = days_[static_cast<unsigned>(date.day())];
  const bool by_weekday = weekdays_[std::chrono::weekday(day).c_encoding()];
  return any_day_ || any_weekday_ ? by_day && by_weekday : by_day || by_weekday;
}

std::optional<Seconds> CronSchedule::search(Seconds t) const {
  using namespace std::chrono;
  const auto today = floor<days>(zone_->to_local(t));
  std::optional<Seconds> best;
  const auto offer = [&](Seconds when) {
    if (when > t && (!best || when < *best)) best = when;
  };
  // The day before, for a time of it that was jumped over; eight years, for the 29th of February around 2100.
  for (auto day = today - days(1); day < today + years(9); day += days(1)) {
    if (!is_day(day)) continue;
    const Seconds as_utc(day.time_since_epoch());
    const auto steady = zone_->steady(as_utc - hours(30), as_utc + hours(54));
    std::optional<LocalSeconds> enough;  // what is later on the clocks comes later, too
    for (unsigned hour = 0; hour < 24; ++hour) {
      if (!hours_[hour]) continue;
      for (unsigned minute = 0; minute < 60; ++minute) {
        if (!minutes_[minute]) continue;
        const LocalSeconds local = day + hours(hour) + minutes(minute);
        if (enough && local > *enough) break;
        if (steady) {
          offer(Seconds(local.time_since_epoch()) - *steady);
          if (best) return best;  // from the first time on, as all before have been looked at
          continue;
        }
        const Zone::Instants instants = zone_->at(local);
        if (instants.skipped && any_hour_) continue;
        offer(instants.first);
        if (instants.second && any_hour_) offer(*instants.second);
        if (best && !enough) enough = local + hours(3);
      }
    }
    if (best && day >= today) return best;
  }
  return best;
}

Seconds CronSchedule::next(Seconds t) const {
  if (const auto found = search(t)) return *found;
  throw ConfigError("a cron condition has no next time");
}

std::optional<Seconds> CronSchedule::last(Seconds after, Seconds until) const {
  std::optional<Seconds> out;
  for (std::optional<Seconds> t = after; (t = search(*t)) && *t <= until;) out = t;
  return out;
}

}  // namespace caller::task::detail
