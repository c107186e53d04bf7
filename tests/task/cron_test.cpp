// Five fields, zones, and what happens when clocks are set.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include <caller/task/error.hpp>

#include "task/trigger/cron.hpp"

using caller::task::ConfigError;
using caller::task::detail::CronSchedule;
using caller::task::detail::Seconds;
using caller::task::detail::Zone;
using namespace std::chrono_literals;

namespace {

Seconds utc(int year, unsigned month, unsigned day, int hour = 0, int minute = 0, int second = 0) {
  using namespace std::chrono;
  return sys_days(std::chrono::year(year) / month / day) + hours(hour) + minutes(minute) + seconds(second);
}
std::string shown(Seconds t) {
  using namespace std::chrono;
  const auto day = floor<days>(t);
  const year_month_day date(day);
  const hh_mm_ss time(t - day);
  char out[40];
  std::snprintf(out, sizeof out, "%04d-%02u-%02u %02d:%02d", int(date.year()), unsigned(date.month()),
                unsigned(date.day()), int(time.hours().count()), int(time.minutes().count()));
  return out;
}
/// The next times, in UTC.
std::vector<std::string> next(const CronSchedule& s, Seconds t, int n) {
  std::vector<std::string> out;
  for (int i = 0; i < n; ++i) out.push_back(shown(t = s.next(t)));
  return out;
}
using Times = std::vector<std::string>;

}  // namespace

TEST_CASE("cron: what five fields mean") {
  struct Case {
    const char* fields;
    Seconds after;
    Times times;
  };
  const Seconds start = utc(2026, 1, 1);  // a Thursday
  const std::vector<Case> cases{
      {"* * * * *", start, {"2026-01-01 00:01", "2026-01-01 00:02"}},
      {"* * * * *", utc(2026, 1, 1, 0, 0, 59), {"2026-01-01 00:01"}},
      {"*/20 * * * *", utc(2026, 1, 1, 23, 40), {"2026-01-02 00:00", "2026-01-02 00:20"}},
      {"5 4 * * *", start, {"2026-01-01 04:05", "2026-01-02 04:05"}},
      {"0,30 9-10 * * *", start, {"2026-01-01 09:00", "2026-01-01 09:30", "2026-01-01 10:00", "2026-01-01 10:30"}},
      {"50-59/4 0 * * *", start, {"2026-01-01 00:50", "2026-01-01 00:54", "2026-01-01 00:58", "2026-01-02 00:50"}},
      {"40/10 0 * * *", start, {"2026-01-01 00:40", "2026-01-01 00:50", "2026-01-02 00:40"}},
      {"0 0 1 JAN,jul *", start, {"2026-07-01 00:00", "2027-01-01 00:00"}},
      {"0 0 31 * *", utc(2026, 1, 31), {"2026-03-31 00:00", "2026-05-31 00:00"}},
      {"0 0 29 2 *", start, {"2028-02-29 00:00", "2032-02-29 00:00"}},
      {"0 0 29 2 *", utc(2096, 3, 1), {"2104-02-29 00:00"}},
      {"0 12 * * MON-FRI", start, {"2026-01-01 12:00", "2026-01-02 12:00", "2026-01-05 12:00"}},
      {"0 12 * * 7", start, {"2026-01-04 12:00", "2026-01-11 12:00"}},
      {"0 12 * * SAT-SUN", start, {"2026-01-03 12:00", "2026-01-04 12:00", "2026-01-10 12:00"}},
      {"0 12 * * 0-7/3", start, {"2026-01-03 12:00", "2026-01-04 12:00", "2026-01-07 12:00"}},
      {"0 0 13 * FRI", start, {"2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00", "2026-01-16 00:00"}},
      {"0 0 */10 * FRI", start, {"2026-05-01 00:00", "2026-07-31 00:00"}},
      {"\t0  0 * *\t* ", start, {"2026-01-02 00:00"}},
      {"@weekly", start, {"2026-01-04 00:00"}},
      {"@yearly", start, {"2027-01-01 00:00"}},
      {"@hourly", utc(2026, 12, 31, 23), {"2027-01-01 00:00"}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.fields);
    CHECK(next(CronSchedule(c.fields, "UTC"), c.after, static_cast<int>(c.times.size())) == c.times);
  }
}

TEST_CASE("cron: what is wrong is refused, with the field and the reason") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "0 fields"},
      {"* * * *", "4 fields"},
      {"* * * * * *", "6 fields"},
      {"60 * * * *", "minute: 60 is not from 0 to 59"},
      {"* 24 * * *", "hour: 24"},
      {"* * 0 * *", "day of month: 0"},
      {"* * * 13 *", "month: 13"},
      {"* * * * 8", "day of week: 8"},
      {"* * * foo *", "\"foo\" is no number and no name"},
      {"jan * * * *", "\"jan\" is no number"},
      {"5-1 * * * *", "ends before it begins"},
      {"*/0 * * * *", "no step"},
      {"*/ * * * *", "no step"},
      {"1,,2 * * * *", "a part is empty"},
      {"-1 * * * *", "\"\" is no number"},
      {"1- * * * *", "\"\" is no number"},
      {"99999999999999999999 * * * *", "is no number"},
      {"0 0 31 2 *", "there is no such day"},
      {"@reboot", "1 fields"},
  };
  for (const auto& [fields, reason] : cases) {
    CAPTURE(fields);
    CHECK_THROWS_WITH_AS(CronSchedule(fields, "UTC"), doctest::Contains(reason.c_str()), ConfigError);
  }
  for (const std::string zone : {"Europe/Nowhere", "../etc/passwd", "/etc/passwd", "Europe"})
    CHECK_THROWS_WITH_AS(CronSchedule("* * * * *", zone), doctest::Contains("time zone"), ConfigError);
}

TEST_CASE("cron: times are those on the wall in the zone") {
  CHECK(next(CronSchedule("30 9 * * *", "Asia/Kolkata"), utc(2026, 1, 1), 2) ==
        Times{"2026-01-01 04:00", "2026-01-02 04:00"});
  CHECK(next(CronSchedule("0 0 1 * *", "America/New_York"), utc(2026, 2, 15), 3) ==
        Times{"2026-03-01 05:00", "2026-04-01 04:00", "2026-05-01 04:00"});
  CHECK(next(CronSchedule("0 12 * * *", "Australia/Lord_Howe"), utc(2026, 4, 3), 3) ==
        Times{"2026-04-03 01:00", "2026-04-04 01:00", "2026-04-05 01:30"});
}

TEST_CASE("cron: an hour that the clocks jump over is the moment of the jump for what has an hour, else nothing") {
  // Europe/Paris, 2026-03-29: 02:00 becomes 03:00, at 01:00 UTC.
  const Seconds before = utc(2026, 3, 28, 12);
  CHECK(next(CronSchedule("30 2 * * *", "Europe/Paris"), before, 2) == Times{"2026-03-29 01:00", "2026-03-30 00:30"});
  CHECK(next(CronSchedule("15,45 2 * * *", "Europe/Paris"), before, 2) ==
        Times{"2026-03-29 01:00", "2026-03-30 00:15"});
  CHECK(next(CronSchedule("30 * * * *", "Europe/Paris"), utc(2026, 3, 29), 3) ==
        Times{"2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 02:30"});
  // Pacific/Apia had no 30th of December 2011.
  CHECK(next(CronSchedule("0 12 * * *", "Pacific/Apia"), utc(2011, 12, 29), 3) ==
        Times{"2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"});
}

TEST_CASE("cron: an hour that comes twice counts the first time for what has an hour, else twice") {
  // Europe/Paris, 2026-10-25: 03:00 becomes 02:00, at 01:00 UTC.
  CHECK(next(CronSchedule("30 2 * * *", "Europe/Paris"), utc(2026, 10, 24, 12), 2) ==
        Times{"2026-10-25 00:30", "2026-10-26 01:30"});
  CHECK(next(CronSchedule("30 * * * *", "Europe/Paris"), utc(2026, 10, 25), 3) ==
        Times{"2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"});
  CHECK(next(CronSchedule("30 2 * * *", "Europe/Paris"), utc(2026, 10, 25, 0, 30), 1) == Times{"2026-10-26 01:30"});
}

TEST_CASE("cron: the last time of a span is found, and none where there is none") {
  const CronSchedule s("*/10 * * * *", "UTC");
  CHECK(s.last(utc(2026, 1, 1), utc(2026, 1, 1, 0, 35)) == utc(2026, 1, 1, 0, 30));
  CHECK(s.last(utc(2026, 1, 1), utc(2026, 1, 1, 0, 10)) == utc(2026, 1, 1, 0, 10));
  CHECK_FALSE(s.last(utc(2026, 1, 1), utc(2026, 1, 1, 0, 9)));
  CHECK_FALSE(s.last(utc(2026, 1, 2), utc(2026, 1, 1)));
}

TEST_CASE("zones: a file without changes goes by its rule, and one that is broken is refused") {
  const auto file = [](const std::string& rule, char kinds = 1) {
    std::string head = "TZif2" + std::string(15, '\0');
    const auto numbers = [](std::initializer_list<char> list) {
      std::string out;
      for (const char c : list) out += std::string(3, '\0') + c;
      return out;
    };
    const std::string counts = numbers({0, 0, 0, 0, kinds, 4});
    std::string type("\0\0\x0e\x10\0\0CET\0", 10);
    return head + counts + type + head + counts + type + "\n" + rule + "\n";
  };
  const Zone paris = Zone::parse(file("CET-1CEST,M3.5.0,M10.5.0/3"), "test");
  for (const auto& [t, offset] : {std::pair{utc(2040, 3, 25, 0, 59, 59), 1h},
                                  {utc(2040, 3, 25, 1), 2h},
                                  {utc(2040, 10, 28, 0, 59, 59), 2h},
                                  {utc(2040, 10, 28, 1), 1h}})
    CHECK(paris.offset_at(t) == offset);
  const Zone south = Zone::parse(file("<-03>3<-02>,M10.1.0/0,M3.3.0/0"), "test");
  CHECK(south.offset_at(utc(2030, 1, 1)) == -2h);
  CHECK(south.offset_at(utc(2030, 6, 1)) == -3h);
  CHECK(Zone::parse(file("<+0545>-5:45"), "test").offset_at(utc(2030, 1, 1)) == 5h + 45min);
  CHECK(Zone::parse(file("A0B,J60,J365/24"), "test").offset_at(utc(2028, 3, 1, 2)) == 1h);
  const std::string good = file("CET-1CEST,M3.5.0,M10.5.0/3");
  for (std::size_t size = 0; size + 30 < good.size(); ++size)
    CHECK_THROWS_AS(Zone::parse(good.substr(0, size), "test"), ConfigError);
  for (const char* rule : {"CET", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.5,M10.5.0",
                           "CET-1CEST,M3.6.0,M10.5.0", "1", ","})
    CHECK_THROWS_AS(Zone::parse(file(rule), "test"), ConfigError);
  CHECK_THROWS_AS(Zone::parse(file("", 0), "test"), ConfigError);
  CHECK_THROWS_AS(Zone::parse("no zone at all, but long enough to look at, and more than that", "test"), ConfigError);
}
