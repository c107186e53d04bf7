#include "wire.hpp"

#include <array>
#include <new>
#include <stdexcept>
#include <system_error>
#include <typeinfo>
#include <utility>

#include <caller/tube/cluster.hpp>
#include <caller/tube/codec.hpp>

namespace caller::tube::detail {

std::string message(Message kind, const Map& content) {
  std::string out(1, static_cast<char>(kind));
  write_cbor(out, Value(content));
  return out;
}
std::string message(Message kind) { return std::string(1, static_cast<char>(kind)); }
Map content_of(ByteReader& reader) {
  const Value v = reader.value();
  if (v.kind() != Kind::map) ByteReader::malformed("expected a map");
  return v.entries();
}

void read_record(ByteReader& reader, RecordHead& head, std::string_view& values) {
  const std::uint8_t kind = reader.byte();
  if (kind < 1 || kind > 3) ByteReader::malformed("an unknown record");
  head.kind = static_cast<RecordHead::Kind>(kind);
  head.epoch = reader.varint();
  const std::uint64_t node = reader.varint();
  if (node > 0xfffffff0) ByteReader::malformed("no such node");
  head.node = static_cast<std::uint32_t>(node);
  head.key.assign(1, static_cast<char32_t>(head.node));
  for (std::uint8_t depth = reader.byte(); depth > 0; --depth) {
    const std::uint64_t index = reader.varint();
    if (index > 0xffffffff) ByteReader::malformed("no such item");
    head.key += static_cast<char32_t>(index);
  }
  const std::uint32_t size = reader.word();
  values = reader.take(size);
}

std::string process_message(std::uint64_t first, std::uint64_t count, const std::vector<std::optional<Value>>& inputs) {
  std::string out(1, static_cast<char>(Message::process));
  write_varint(out, first);
  write_varint(out, count);
  write_varint(out, inputs.size());
  for (const std::optional<Value>& v : inputs) {
    out += v ? '\1' : '\0';
    if (v) write_cbor(out, *v);
  }
  return out;
}
Grant read_grant(ByteReader& reader) {
  Grant grant;
  grant.first = reader.varint();
  grant.count = reader.varint();
  const std::uint64_t inputs = reader.varint();
  if (inputs > reader.left()) ByteReader::malformed("more inputs than bytes");
  for (std::uint64_t i = 0; i < inputs; ++i) {
    grant.inputs.emplace_back();
    if (reader.byte()) grant.inputs.back() = reader.value();
  }
  return grant;
}

// ------------------------------------------------------------------------------------------------ exceptions

namespace {

/// Throws with what is in flight nested inside, if anything is.
template <class E>
[[noreturn]] void raise(E error, bool nested) {
  if (nested) std::throw_with_nested(std::move(error));
  throw error;
}

template <class E>
[[noreturn]] void throw_text(const std::string& what, bool nested) {
  raise(E(what), nested);
}
struct Standard {
  const char* name;
  const std::type_info* type;
  bool (*is)(const std::exception&);
  void (*raise)(const std::string& what, bool nested);
};
template <class E>
constexpr Standard standard(const char* name) {
  return {name, &typeid(E), [](const std::exception& e) { return dynamic_cast<const E*>(&e) != nullptr; },
          &throw_text<E>};
}
/// The most derived ones first.
const std::array kStandard{
    standard<std::invalid_argument>("invalid_argument"), standard<std::domain_error>("domain_error"),
    standard<std::length_error>("length_error"),         standard<std::out_of_range>("out_of_range"),
    standard<std::range_error>("range_error"),           standard<std::overflow_error>("overflow_error"),
    standard<std::underflow_error>("underflow_error"),   standard<std::logic_error>("logic_error"),
};

Value encode(const std::exception_ptr& error, const std::vector<std::string>& where, int depth);

Map encode_one(const std::exception& e) {
  Map m{{"what", std::string(e.what())}};
  if (const auto* n = dynamic_cast<const NodeError*>(&e)) {
    m.set("kind", "NodeError");
    m.set("node", n->node());
    m.set("epoch", n->epoch());
    m.set("cause", n->cause());
  } else if (const auto* s = dynamic_cast<const SpecError*>(&e)) {
    m.set("kind", "SpecError");
    m.set("file", s->file());
    m.set("line", s->line());
    m.set("column", s->column());
    m.set("key", s->key());
    m.set("message", s->message());
  } else if (const auto* trace = dynamic_cast<const RemoteTrace*>(&e)) {
    m.set("kind", "trace");
    m.set("lines", trace->lines());
  } else if (dynamic_cast<const EndOfStream*>(&e)) {
    m.set("kind", "EndOfStream");
  } else if (dynamic_cast<const InputMissingError*>(&e)) {
    m.set("kind", "InputMissingError");
  } else if (dynamic_cast<const TubeRunningError*>(&e)) {
    m.set("kind", "TubeRunningError");
  } else if (const auto* t = dynamic_cast<const Error*>(&e)) {
    m.set("kind", "Error");
    m.set("code", t->code().value());
  } else if (const auto* c = dynamic_cast<const std::system_error*>(&e);
             c && (c->code().category() == std::generic_category() || c->code().category() == std::system_category())) {
    m.set("kind", c->code().category() == std::generic_category() ? "generic_error" : "system_error");
    m.set("code", c->code().value());
  } else if (const auto* r = dynamic_cast<const RemoteError*>(&e)) {
    m.set("kind", "other");
    m.set("type", r->type());
  } else if (dynamic_cast<const std::bad_alloc*>(&e)) {
    m.set("kind", "bad_alloc");
  } else {
    for (const Standard& known : kStandard) {
      if (!known.is(e)) continue;
      m.set("kind", known.name);
      return m;
    }
    if (typeid(e) == typeid(std::runtime_error)) {
      m.set("kind", "runtime_error");
    } else {
      m.set("kind", "other");
      m.set("type", type_name(typeid(e)));
    }
  }
  return m;
}

Value encode(const std::exception_ptr& error, const std::vector<std::string>& where, int depth) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    Map m = encode_one(e);
    if (const auto* nested = dynamic_cast<const std::nested_exception*>(&e);
        nested && nested->nested_ptr() && depth < 8)
      m.set("nested", encode(nested->nested_ptr(), where, depth + 1));
    else if (!where.empty() && !dynamic_cast<const RemoteTrace*>(&e))
      m.set("nested", Map{{"kind", "trace"}, {"lines", where}});
    return m;
  } catch (...) {
    return Map{{"kind", "other"}, {"type", "not known"}, {"what", "an exception that is no std::exception"}};
  }
}

std::string text_of(const Map& m, std::string_view key) {
  const Value* v = m.find(key);
  return v && v->is<std::string>() ? v->as<std::string>() : std::string();
}
int number_of(const Map& m, std::string_view key) {
  const Value* v = m.find(key);
  return v && v->kind() == Kind::integer ? v->to<int>() : 0;
}

[[noreturn]] void raise_one(const Map& m, bool nested) {
  const std::string kind = text_of(m, "kind"), what = text_of(m, "what");
  if (kind == "NodeError") raise(NodeError(text_of(m, "node"), text_of(m, "epoch"), text_of(m, "cause"), what), nested);
  if (kind == "SpecError")
    raise(SpecError({text_of(m, "file"), number_of(m, "line"), number_of(m, "column")}, text_of(m, "key"),
                    text_of(m, "message")),
          nested);
  if (kind == "trace") {
    std::vector<std::string> lines;
    if (const Value* found = m.find("lines"); found && found->kind() == Kind::list)
      for (const Value& line : found->items()) lines.push_back(line.is<std::string>() ? line.as<std::string>() : "");
    raise(RemoteTrace(std::move(lines)), nested);
  }
  if (kind == "EndOfStream") raise(EndOfStream(what), nested);
  if (kind == "InputMissingError") raise(InputMissingError(what), nested);
  if (kind == "TubeRunningError") raise(TubeRunningError(what), nested);
  if (kind == "Error") raise(Error(static_cast<Errc>(number_of(m, "code")), what), nested);
  if (kind == "generic_error" || kind == "system_error") {
    const std::error_code code(number_of(m, "code"),
                               kind == "generic_error" ? std::generic_category() : std::system_category());
    // what() is the text given, a colon, and the code's own words, which the constructor adds again.
    std::string text = what;
    const std::string words = ": " + code.message();
    if (text.ends_with(words)) text.resize(text.size() - words.size());
    raise(text == code.message() ? std::system_error(code) : std::system_error(code, text), nested);
  }
  if (kind == "bad_alloc") raise(std::bad_alloc(), nested);
  if (kind == "runtime_error") raise(std::runtime_error(what), nested);
  for (const Standard& known : kStandard)
    if (kind == known.name) known.raise(what, nested);
  raise(RemoteError(text_of(m, "type"), what), nested);
}

std::exception_ptr decode(const Value& value, int depth) {
  if (value.kind() != Kind::map) return std::make_exception_ptr(RemoteError("not known", "an error without a text"));
  const Map m = value.entries();
  const Value* inner = depth < 9 ? m.find("nested") : nullptr;
  try {
    if (!inner) raise_one(m, false);
    try {
      std::rethrow_exception(decode(*inner, depth + 1));
    } catch (...) {
      raise_one(m, true);
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

Value error_value(const std::exception_ptr& error, const std::vector<std::string>& where) {
  return encode(error, where, 0);
}
std::exception_ptr error_from(const Value& value) { return decode(value, 0); }

void add_elsewhere() {
  static const bool added = [] {
    add_codec<Elsewhere>(
        "caller.elsewhere", [](const Elsewhere& e) { return e.type; },
        [](const Value& v) { return Elsewhere{v.is<std::string>() ? v.as<std::string>() : ""}; });
    return true;
  }();
  (void)added;
}

}  // namespace caller::tube::detail
