// Writing values; reader.cpp reads them.
#include <caller/task/codec.hpp>

#include <bit>
#include <cassert>
#include <charconv>
#include <cstring>

namespace caller::task {

namespace {

constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void append_base64(std::string& out, std::span<const std::byte> bytes) {
  std::size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const auto n = std::to_integer<unsigned>(bytes[i]) << 16 | std::to_integer<unsigned>(bytes[i + 1]) << 8 |
                   std::to_integer<unsigned>(bytes[i + 2]);
    for (const int shift : {18, 12, 6, 0}) out += kBase64[n >> shift & 63];
  }
  if (const std::size_t left = bytes.size() - i) {
    unsigned n = std::to_integer<unsigned>(bytes[i]) << 16;
    if (left == 2) n |= std::to_integer<unsigned>(bytes[i + 1]) << 8;
    out += kBase64[n >> 18 & 63];
    out += kBase64[n >> 12 & 63];
    out += left == 2 ? kBase64[n >> 6 & 63] : '=';
    out += '=';
  }
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  std::size_t plain = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        out += "\\u00";
        out += "0123456789abcdef"[c >> 4];
        out += "0123456789abcdef"[c & 15];
    }
  }
  out.append(text, plain);
  out += '"';
}

template <class N>
void append_number(std::string& out, N n) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out.append(digits, end);
}

}  // namespace

bool detail::is_utf8(std::string_view s) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  for (std::size_t i = 0; i < s.size();) {
    const unsigned char c = at(i);
    if (c < 0x80) {
      ++i;
      continue;
    }
    const int more = c >= 0xc2 && c <= 0xdf ? 1 : c >= 0xe0 && c <= 0xef ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 0;
    if (!more || i + static_cast<std::size_t>(more) >= s.size()) return false;
    const unsigned char second = at(i + 1);
    if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) ||
        (c == 0xf4 && second > 0x8f))
      return false;
    for (int k = 1; k <= more; ++k)
      if ((at(i + static_cast<std::size_t>(k)) & 0xc0) != 0x80) return false;
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

// ---- writing ----

void Writer::begin_value() {
  if (levels_.empty()) return;
  Level& level = levels_.back();
  assert(level.left > 0 && "more values than the container was begun with");
  if (format_ == Format::json && !level.map) {
    if (!level.first) out_ += ',';
    level.first = false;
  }
}

void Writer::end_value() {
  while (!levels_.empty()) {
    if (--levels_.back().left > 0) return;
    if (format_ == Format::json) out_ += levels_.back().map ? '}' : ']';
    levels_.pop_back();
  }
}

/// The first byte of an item and its number, of CBOR.
void Writer::head(unsigned major, std::uint64_t n) {
  const auto byte = [&](std::uint64_t b) { out_ += static_cast<char>(b); };
  const unsigned kind = major << 5;
  int size = 0;
  if (n < 24) {
    byte(kind | n);
  } else if (n <= 0xff) {
    byte(kind | 24);
    size = 1;
  } else if (n <= 0xffff) {
    byte(kind | 25);
    size = 2;
  } else if (n <= 0xffff'ffff) {
    byte(kind | 26);
    size = 4;
  } else {
    byte(kind | 27);
    size = 8;
  }
  while (size-- > 0) byte(n >> (8 * size) & 255);
}

void Writer::null() {
  begin_value();
  if (format_ == Format::json)
    out_ += "null";
  else
    head(7, 22);
  end_value();
}

void Writer::boolean(bool value) {
  begin_value();
  if (format_ == Format::json)
    out_ += value ? "true" : "false";
  else
    head(7, value ? 21 : 20);
  end_value();
}

void Writer::integer(std::int64_t value) {
  begin_value();
  if (format_ == Format::json)
    append_number(out_, value);
  else if (value >= 0)
    head(0, static_cast<std::uint64_t>(value));
  else
    head(1, static_cast<std::uint64_t>(-(value + 1)));
  end_value();
}

void Writer::natural(std::uint64_t value) {
  begin_value();
  if (format_ == Format::json)
    append_number(out_, value);
  else
    head(0, value);
  end_value();
}

void Writer::number(double value) {
  begin_value();
  if (format_ == Format::cbor) {
    out_ += static_cast<char>(0xfb);
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift & 255);
  } else if (std::isfinite(value)) {
    append_number(out_, value);
  } else {
    out_ += std::isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  }
  end_value();
}

void Writer::text(std::string_view value) {
  if (!detail::is_utf8(value)) return bytes(std::as_bytes(std::span(value)));
  begin_value();
  if (format_ == Format::json) {
    append_quoted(out_, value);
  } else {
    head(3, value.size());
    out_ += value;
  }
  end_value();
}

void Writer::bytes(std::span<const std::byte> value) {
  begin_value();
  if (format_ == Format::json) {
    out_ += "{\"$bytes\":\"";
    append_base64(out_, value);
    out_ += "\"}";
  } else {
    head(2, value.size());
    out_.append(reinterpret_cast<const char*>(value.data()), value.size());
  }
  end_value();
}

void Writer::list(std::size_t size) {
  begin_value();
  if (format_ == Format::json)
    out_ += size ? "[" : "[]";
  else
    head(4, size);
  if (size)
    levels_.push_back({size, false});
  else
    end_value();
}

void Writer::map(std::size_t size) {
  begin_value();
  if (format_ == Format::json)
    out_ += size ? "{" : "{}";
  else
    head(5, size);
  if (size)
    levels_.push_back({size, true});
  else
    end_value();
}

void Writer::raw(std::string_view value) {
  begin_value();
  out_ += value;
  end_value();
}

void Writer::key(std::string_view name) {
  assert(!levels_.empty() && levels_.back().map && "a key outside of a map");
  if (!detail::is_utf8(name)) throw SerializationError("the key of a map has to be UTF-8");
  if (format_ == Format::json) {
    if (!levels_.back().first) out_ += ',';
    levels_.back().first = false;
    append_quoted(out_, name);
    out_ += ':';
  } else {
    head(3, name.size());
    out_ += name;
  }
}

}  // namespace caller::task
