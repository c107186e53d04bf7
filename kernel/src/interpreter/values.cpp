// The parts of the printers that need no template.
#include <caller/kernel/values.hpp>

#include <cxxabi.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace caller::kernel::detail {

void put(std::string& out, bool v) { out += v ? "true" : "false"; }
void put(std::string& out, long long v) { out += std::to_string(v); }
void put(std::string& out, unsigned long long v) { out += std::to_string(v); }

void put(std::string& out, double v, int digits) {
  char buffer[64];
  // The shortest text that reads back as the same value of its type.
  const auto r = digits <= 9 ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<float>(v))
                             : std::to_chars(buffer, buffer + sizeof buffer, v);
  std::string_view text(buffer, static_cast<std::size_t>(r.ptr - buffer));
  out += text;
  if (std::isfinite(v) && text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void put(std::string& out, long double v) {
  char buffer[64];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, v);
  std::string_view text(buffer, static_cast<std::size_t>(r.ptr - buffer));
  out += text;
  if (std::isfinite(v) && text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

namespace {
void put_utf8(std::string& out, unsigned long c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | ((c >> 18) & 0x07));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

bool put_escape(std::string& out, unsigned char c, char quote) {
  switch (c) {
    case '\n':
      out += "\\n";
      return true;
    case '\t':
      out += "\\t";
      return true;
    case '\r':
      out += "\\r";
      return true;
    case '\0':
      out += "\\0";
      return true;
    case '\\':
      out += "\\\\";
      return true;
    default:
      break;
  }
  if (c == static_cast<unsigned char>(quote)) {
    out += '\\';
    out += quote;
    return true;
  }
  if (c < 0x20 || c == 0x7f) {
    char buffer[8];
    std::snprintf(buffer, sizeof buffer, "\\x%02x", c);
    out += buffer;
    return true;
  }
  return false;
}
}  // namespace

void put_char(std::string& out, unsigned long v) {
  out += '\'';
  if (v >= 0x80 && v < 0x100) {  // half of a UTF-8 sequence, or Latin-1: never valid alone
    char buffer[8];
    std::snprintf(buffer, sizeof buffer, "\\x%02lx", v);
    out += buffer;
  } else if (v >= 0x80 || !put_escape(out, static_cast<unsigned char>(v), '\'')) {
    put_utf8(out, v);
  }
  out += '\'';
}

void put_quoted(std::string& out, std::string_view v) {
  out += '"';
  for (const char c : v)
    if (!put_escape(out, static_cast<unsigned char>(c), '"')) out += c;
  out += '"';
}

void put_pointer(std::string& out, const volatile void* p) {
  if (!p) {
    out += "nullptr";
    return;
  }
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "0x%zx", reinterpret_cast<std::size_t>(p));
  out += buffer;
}

void put_duration_unit(std::string& out, long long num, long long den) {
  struct Unit {
    long long num, den;
    const char* text;
  };
  static constexpr Unit units[] = {{1, 1, "s"},    {1, 1000, "ms"}, {1, 1'000'000, "µs"}, {1, 1'000'000'000, "ns"},
                                   {60, 1, "min"}, {3600, 1, "h"},  {86400, 1, "d"}};
  for (const auto& u : units)
    if (u.num == num && u.den == den) {
      out += u.text;
      return;
    }
  out += '[' + std::to_string(num);
  if (den != 1) out += '/' + std::to_string(den);
  out += "]s";
}

void put_time(std::string& out, long double seconds) {
  const long double whole = std::floor(seconds);
  const auto t = static_cast<std::time_t>(whole);
  std::tm utc{};
  gmtime_r(&t, &utc);
  char buffer[80];
  const auto n = std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &utc);
  out.append(buffer, n);
  std::snprintf(buffer, sizeof buffer, ".%06d UTC", static_cast<int>((seconds - whole) * 1e6L));
  out += buffer;
}

namespace {
// Cells are inline namespaces; their names are nobody's business.
std::string without_cells(std::string text) {
  for (std::size_t i = 0; (i = text.find("__cell_", i)) != std::string::npos;) {
    std::size_t e = i + 7;
    while (e < text.size() && text[e] >= '0' && text[e] <= '9') ++e;
    if (text.compare(e, 2, "::") == 0)
      text.erase(i, e + 2 - i);
    else
      i = e;
  }
  return text;
}
}  // namespace

std::string clean_type_name(std::string_view f) {  // "… [T = X]" or "… [with T = X; …]"
  auto b = f.find("T = ");
  if (b == std::string_view::npos) return std::string(f);
  b += 4;
  auto e = f.find_first_of(";]", b);
  // A `]` of an array type belongs to the name.
  for (auto last = f.rfind(']'); e != std::string_view::npos && f[e] == ']' && e != last;)
    e = f.find_first_of(";]", e + 1);
  return without_cells(std::string(f.substr(b, e == std::string_view::npos ? e : e - b)));
}

std::string demangle_clean(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string out = text ? text : mangled;
  std::free(text);
  return without_cells(std::move(out));
}

}  // namespace caller::kernel::detail
