#include "text.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>

#include <caller/task/codec.hpp>

namespace caller::monitor {

namespace {

/// The length of the well-formed character at the start of `s`, or 0 (Unicode 15, table 3-7).
std::size_t character(std::string_view s) noexcept {
  const auto at = [&](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto tail = [&](std::size_t i) { return at(i) >= 0x80 && at(i) <= 0xBF; };
  const unsigned c = at(0);
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return tail(1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    const unsigned low = c == 0xE0 ? 0xA0 : 0x80, high = c == 0xED ? 0x9F : 0xBF;
    return at(1) >= low && at(1) <= high && tail(2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    const unsigned low = c == 0xF0 ? 0x90 : 0x80, high = c == 0xF4 ? 0x8F : 0xBF;
    return at(1) >= low && at(1) <= high && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

bool is_text(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const std::size_t n = character(bytes);
    const auto c = static_cast<unsigned char>(bytes.front());
    if (n == 0 || (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7F) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

constexpr char kHex[] = "0123456789abcdef";

std::string hexadecimal(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 3);
  for (const char c : bytes) {
    if (!out.empty()) out += ' ';
    out += kHex[static_cast<unsigned char>(c) >> 4];
    out += kHex[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

/// A decoded value, for people; gives up when it has written enough.
class Printer {
public:
  explicit Printer(std::size_t most) : most_(most) {}
  bool full() const noexcept { return out_.size() >= most_; }
  std::string take() { return std::move(out_); }

  void print(const task::Reader& r, std::size_t indent) {
    using Kind = task::Reader::Kind;
    if (full()) return;
    switch (r.kind()) {
      case Kind::null:
        out_ += "null";
        break;
      case Kind::boolean:
        out_ += r.boolean() ? "true" : "false";
        break;
      case Kind::integer:
        out_ += std::to_string(r.integer());
        break;
      case Kind::natural:
        out_ += std::to_string(r.natural());
        break;
      case Kind::number:
        out_ += nlohmann::json(r.number()).dump();
        break;
      case Kind::text:
        quote(r.text());
        break;
      case Kind::bytes: {
        const auto bytes = r.bytes();
        const std::string_view view(reinterpret_cast<const char*>(bytes.data()),
                                    std::min<std::size_t>(bytes.size(), left()));
        out_ += "bytes[" + std::to_string(bytes.size()) + "] " + hexadecimal(view);
        break;
      }
      case Kind::list:
        container(r, indent, '[', ']', false);
        break;
      case Kind::map:
        container(r, indent, '{', '}', true);
        break;
    }
  }

private:
  std::size_t left() const noexcept { return most_ > out_.size() ? most_ - out_.size() : 0; }
  void quote(std::string_view s) {
    out_ += nlohmann::json(shown(s, left() + 4)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  void container(const task::Reader& r, std::size_t indent, char open, char close, bool map) {
    const std::size_t n = r.size();
    out_ += open;
    // Short lists of plain values stay on a line.
    bool flat = !map && n <= 16;
    for (std::size_t i = 0; flat && i < n; ++i)
      flat = r.item(i).kind() != task::Reader::Kind::list && r.item(i).kind() != task::Reader::Kind::map;
    const std::string line = flat ? std::string() : "\n" + std::string(std::min<std::size_t>(indent + 1, 40) * 2, ' ');
    for (std::size_t i = 0; i < n && !full(); ++i) {
      if (i > 0) out_ += flat ? ", " : ",";
      out_ += line;
      if (map) {
        quote(r.key(i));
        out_ += ": ";
      }
      print(r.item(i), indent + 1);
    }
    if (!flat && n > 0) out_ += "\n" + std::string(std::min<std::size_t>(indent, 40) * 2, ' ');
    out_ += close;
  }

  std::string out_;
  std::size_t most_;
};

std::optional<ValueText> decoded(task::Format format, std::string_view bytes, std::size_t most) {
  try {
    const task::Document document(format, bytes);
    Printer printer(most);
    printer.print(document.root(), 0);
    const bool full = printer.full();
    return ValueText{shown(printer.take(), most), format == task::Format::json ? "json" : "cbor", full, bytes.size()};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace

std::string shown(std::string_view bytes, std::size_t most, bool* cut) {
  if (cut) *cut = bytes.size() > most;
  const bool whole = bytes.size() <= most;
  std::string out;
  out.reserve(std::min(bytes.size(), most));
  std::string_view rest = bytes;
  while (!rest.empty() && bytes.size() - rest.size() < most) {
    const std::size_t n = character(rest);
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      rest.remove_prefix(1);
      continue;
    }
    if (!whole && bytes.size() - rest.size() + n > most) break;
    out.append(rest.substr(0, n));
    rest.remove_prefix(n);
  }
  return out;
}

std::string percent_encoded(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) || c == '-' || c == '_' || c == '.') {
      out += c;
    } else {
      out += '%';
      out += kHex[u >> 4];
      out += kHex[u & 15];
    }
  }
  return out;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit(text[i + 1]), low = digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::string_view Target::value(std::string_view name) const noexcept {
  for (const auto& [key, text] : query)
    if (key == name) return text;
  return {};
}

std::optional<Target> parse_target(std::string_view text) {
  if (text.empty() || text.front() != '/') return std::nullopt;
  Target out;
  const std::size_t mark = text.find('?');
  std::string_view path = text.substr(0, mark), query = mark == text.npos ? "" : text.substr(mark + 1);
  const auto pieces = [](std::string_view all, char between, auto&& take) {
    while (!all.empty()) {
      const std::size_t end = std::min(all.find(between), all.size());
      if (end > 0 && !take(all.substr(0, end))) return false;
      all.remove_prefix(std::min(end + 1, all.size()));
    }
    return true;
  };
  const bool good = pieces(path, '/',
                           [&](std::string_view piece) {
                             auto part = percent_decoded(piece);
                             if (part) out.path.push_back(std::move(*part));
                             return part.has_value();
                           }) &&
                    pieces(query, '&', [&](std::string_view piece) {
                      const std::size_t sign = piece.find('=');
                      auto key = percent_decoded(piece.substr(0, sign));
                      auto value = percent_decoded(sign == piece.npos ? "" : piece.substr(sign + 1));
                      if (!key || !value) return false;
                      out.query.emplace_back(std::move(*key), std::move(*value));
                      return true;
                    });
  if (!good) return std::nullopt;
  return out;
}

std::optional<std::size_t> number(std::string_view text, std::size_t most) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

ValueText value_text(std::string_view bytes, std::string_view like, std::size_t most) {
  // Reading all of a huge value only to show its beginning is not worth it.
  const std::size_t decoded_at_most = std::clamp<std::size_t>(16 * most, 4096, kMostDecoded);
  if (bytes.size() <= decoded_at_most && !bytes.empty()) {
    const auto first = static_cast<unsigned char>(like.empty() ? 0 : like.front());
    const bool is_cbor = first >= 0xA0 && first <= 0xBF;
    if (!is_cbor)
      if (auto found = decoded(task::Format::json, bytes, most)) return std::move(*found);
    if (first != '{')
      if (auto found = decoded(task::Format::cbor, bytes, most)) return std::move(*found);
  }
  bool cut = false;
  std::string text = shown(bytes, most, &cut);
  if (is_text(bytes.substr(0, text.size()))) return {std::move(text), "text", cut, bytes.size()};
  cut = bytes.size() > most / 3;
  return {hexadecimal(bytes.substr(0, most / 3)), "bytes", cut, bytes.size()};
}

}  // namespace caller::monitor
