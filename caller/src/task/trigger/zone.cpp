#include "zone.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include <caller/task/error.hpp>

namespace caller::task::detail {

namespace {

using std::chrono::seconds;

[[noreturn]] void fail(const std::string& name, const std::string& why) {
  throw ConfigError("time zone \"" + name + "\": " + why);
}

/// Big-endian numbers of a file.
class Bytes {
public:
  Bytes(std::string_view all, const std::string& name) : rest_(all), name_(name) {}
  std::string_view take(std::size_t n) {
    if (rest_.size() < n) fail(name_, "its file is cut off");
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }
  std::uint64_t number(std::size_t bytes) {
    std::uint64_t out = 0;
    for (const char c : take(bytes)) out = out << 8 | static_cast<unsigned char>(c);
    return out;
  }
  std::string_view rest() const noexcept { return rest_; }

private:
  std::string_view rest_;
  const std::string& name_;
};

struct Head {
  char version;
  std::uint64_t utc_flags, standard_flags, leaps, times, types, letters;
};
Head head(Bytes& in, const std::string& name) {
  if (in.take(4) != "TZif") fail(name, "its file is none of a time zone");
  Head h{};
  h.version = in.take(1)[0];
  in.take(15);
  for (auto* n : {&h.utc_flags, &h.standard_flags, &h.leaps, &h.times, &h.types, &h.letters}) *n = in.number(4);
  return h;
}

int to_int(std::string_view& text, const std::string& name) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int out = 0;
  std::size_t digits = 0;
  for (; digits < text.size() && digits < 5 && text[digits] >= '0' && text[digits] <= '9'; ++digits)
    out = out * 10 + (text[digits] - '0');
  if (digits == 0) fail(name, "its rule cannot be read");
  text.remove_prefix(digits);
  return negative ? -out : out;
}

/// `[+-]hh[:mm[:ss]]`.
seconds to_time(std::string_view& text, const std::string& name) {
  const bool negative = text.starts_with('-');
  seconds out{std::abs(to_int(text, name)) * 3600};
  for (const int unit : {60, 1}) {
    if (!text.starts_with(':')) break;
    text.remove_prefix(1);
    out += seconds(to_int(text, name) * unit);
  }
  return negative ? -out : out;
}

int year_of(Seconds t) {
  return static_cast<int>(std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(t)).year());
}

}  // namespace

std::shared_ptr<const Zone> Zone::named(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Zone>> known;
  const std::lock_guard lock(mutex);
  auto& zone = known[name];
  if (zone) return zone;
  if (name.empty() || name == "UTC") return zone = std::make_shared<const Zone>();
  if (name.front() == '/' || name.find("..") != std::string::npos || name.find('\0') != std::string::npos)
    fail(name, "no name of one; they are like Europe/Paris");
  const char* const folder = std::getenv("TZDIR");
  std::error_code none;
  const auto file = std::filesystem::path(folder && *folder ? folder : "/usr/share/zoneinfo") / name;
  std::ifstream in;
  if (std::filesystem::is_regular_file(file, none)) in.open(file, std::ios::binary);
  if (!in.is_open()) fail(name, "the system knows none of that name");
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  return zone = std::make_shared<const Zone>(parse(bytes, name));
}

Zone Zone::parse(std::string_view bytes, const std::string& name) {
  Bytes in(bytes, name);
  Head h = head(in, name);
  std::size_t wide = 4;
  if (h.version >= '2') {  // the first part is for readers of the first version
    for (const auto& [count, size] : {std::pair{h.times, 5u},
                                      {h.types, 6u},
                                      {h.letters, 1u},
                                      {h.leaps, 8u},
                                      {h.standard_flags, 1u},
                                      {h.utc_flags, 1u}})
      in.take(count * size);
    h = head(in, name);
    wide = 8;
  }
  if (h.types == 0) fail(name, "its file has no offsets");
  std::vector<Seconds> times;
  for (std::uint64_t i = 0; i < h.times; ++i) {
    const std::uint64_t t = in.number(wide);
    times.emplace_back(seconds(wide == 8 ? static_cast<std::int64_t>(t) : static_cast<std::int32_t>(t)));
  }
  const std::string_view kinds = in.take(h.times);
  std::vector<seconds> offsets;
  for (std::uint64_t i = 0; i < h.types; ++i) {
    offsets.emplace_back(static_cast<std::int32_t>(in.number(4)));
    if (offsets.back() < seconds(-93600) || offsets.back() > seconds(93600)) fail(name, "its file has a wild offset");
    in.take(2);
  }
  Zone zone;
  zone.first_offset_ = offsets[0];
  for (std::size_t i = 0; i < times.size(); ++i) {
    const auto kind = static_cast<unsigned char>(kinds[i]);
    if (kind >= offsets.size() || (i > 0 && times[i] <= times[i - 1])) fail(name, "its file contradicts itself");
    zone.changes_.push_back({times[i], offsets[kind]});
  }
  if (wide == 8) {
    in.take(h.letters + h.leaps * 12 + h.standard_flags + h.utc_flags);
    std::string_view rule = in.rest();
    if (rule.size() >= 2 && rule.front() == '\n' && rule.find('\n', 1) != rule.npos)
      if (rule = rule.substr(1, rule.find('\n', 1) - 1); !rule.empty()) zone.rule_ = parse_rule(rule, name);
  }
  return zone;
}

/// POSIX's TZ: `CET-1CEST,M3.5.0,M10.5.0/3`.
Zone::Rule Zone::parse_rule(std::string_view text, const std::string& name) {
  const auto skip_letters = [&] {
    const std::size_t before = text.size();
    if (text.starts_with('<'))
      text.remove_prefix(std::min(text.find('>'), text.size() - 1) + 1);
    else
      while (!text.empty() && ((text.front() | 32) >= 'a' && (text.front() | 32) <= 'z')) text.remove_prefix(1);
    if (text.size() == before) fail(name, "its rule cannot be read");
  };
  const auto day = [&] {
    if (!text.starts_with(',')) fail(name, "its rule cannot be read");
    text.remove_prefix(1);
    Day d;
    d.kind = 'N';
    if (text.starts_with('M') || text.starts_with('J')) {
      d.kind = text.front();
      text.remove_prefix(1);
    }
    d.number = to_int(text, name);
    if (d.kind == 'M') {
      d.month = d.number;
      for (int* part : {&d.week, &d.number}) {
        if (!text.starts_with('.')) fail(name, "its rule cannot be read");
        text.remove_prefix(1);
        *part = to_int(text, name);
      }
      if (d.month < 1 || d.month > 12 || d.week < 1 || d.week > 5 || d.number < 0 || d.number > 6)
        fail(name, "its rule cannot be read");
    }
    if (text.starts_with('/')) {
      text.remove_prefix(1);
      d.time = to_time(text, name);
    }
    return d;
  };
  Rule rule;
  skip_letters();
  rule.standard = -to_time(text, name);
  if (text.empty()) return rule;
  skip_letters();
  rule.summer = text.starts_with(',') ? rule.standard + std::chrono::hours(1) : -to_time(text, name);
  const Day begin = day();
  rule.days.emplace(begin, day());
  return rule;
}

LocalSeconds Zone::day_of(const Day& d, int year) {
  using namespace std::chrono;
  const auto y = std::chrono::year(year);
  local_days day;
  if (d.kind == 'M') {
    const auto month = y / std::chrono::month(static_cast<unsigned>(d.month));
    const weekday w(static_cast<unsigned>(d.number));
    day = d.week == 5 ? local_days(month / w[last]) : local_days(month / w[static_cast<unsigned>(d.week)]);
  } else {
    const bool counts_leap_day = d.kind == 'N' || (y.is_leap() && d.number >= 60);
    day = local_days(y / January / 1) +
          days(d.number - (d.kind == 'J' ? 1 : 0) + (d.kind == 'J' && counts_leap_day ? 1 : 0));
  }
  return day + d.time;
}

void Zone::add_rule_changes(int year, std::vector<Change>& out) const {
  if (!rule_ || !rule_->days) return;
  const auto to_sys = [](LocalSeconds local, seconds offset) { return Seconds(local.time_since_epoch()) - offset; };
  out.push_back({to_sys(day_of(rule_->days->first, year), rule_->standard), rule_->summer});
  out.push_back({to_sys(day_of(rule_->days->second, year), rule_->summer), rule_->standard});
}

std::vector<Zone::Change> Zone::changes_between(Seconds from, Seconds to) const {
  std::vector<Change> out;
  auto it =
      std::lower_bound(changes_.begin(), changes_.end(), from, [](const Change& c, Seconds t) { return c.at < t; });
  for (; it != changes_.end() && it->at <= to; ++it) out.push_back(*it);
  std::vector<Change> later;
  for (int year = year_of(from) - 1; year <= year_of(to) + 1; ++year) add_rule_changes(year, later);
  for (const Change& c : later)
    if (c.at >= from && c.at <= to && (changes_.empty() || c.at > changes_.back().at)) out.push_back(c);
  std::sort(out.begin(), out.end(), [](const Change& a, const Change& b) { return a.at < b.at; });
  return out;
}

seconds Zone::offset_at(Seconds t) const {
  if (rule_ && (changes_.empty() || t >= changes_.back().at)) {
    if (!rule_->days) return rule_->standard;
    std::vector<Change> around;
    for (int year = year_of(t) - 1; year <= year_of(t) + 1; ++year) add_rule_changes(year, around);
    std::sort(around.begin(), around.end(), [](const Change& a, const Change& b) { return a.at < b.at; });
    seconds out = rule_->standard;
    for (const Change& c : around)
      if (c.at <= t) out = c.offset;
    return out;
  }
  const auto it =
      std::upper_bound(changes_.begin(), changes_.end(), t, [](Seconds when, const Change& c) { return when < c.at; });
  return it == changes_.begin() ? first_offset_ : std::prev(it)->offset;
}

std::optional<seconds> Zone::steady(Seconds from, Seconds to) const {
  const seconds offset = offset_at(from);
  for (const Change& c : changes_between(from, to))
    if (c.offset != offset) return std::nullopt;
  return offset;
}

Zone::Instants Zone::at(LocalSeconds local) const {
  const Seconds as_utc(local.time_since_epoch());
  constexpr std::chrono::hours kFarthest(27);
  const auto changes = changes_between(as_utc - kFarthest, as_utc + kFarthest);
  std::vector<seconds> offsets{offset_at(as_utc - kFarthest)};
  for (const Change& c : changes) offsets.push_back(c.offset);
  std::vector<Seconds> found;
  for (const seconds offset : offsets)
    if (offset_at(as_utc - offset) == offset) found.push_back(as_utc - offset);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  if (found.empty()) {
    seconds before = offsets[0];
    for (const Change& c : changes) {
      if (as_utc >= c.at + before && as_utc < c.at + c.offset) return {true, c.at, std::nullopt};
      before = c.offset;
    }
    return {true, as_utc - before, std::nullopt};  // not with a sound table
  }
  return {false, found[0], found.size() > 1 ? std::optional(found[1]) : std::nullopt};
}

}  // namespace caller::task::detail
