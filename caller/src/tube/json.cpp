#include <caller/tube/json.hpp>

#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

namespace caller::tube {

namespace {

using Json = nlohmann::ordered_json;

Json encoded(const Value& v, Unsayable unsayable, int depth) {
  if (depth > 200) throw Error(Errc::out_of_range, "nested too deeply for JSON");
  switch (v.kind()) {
    case Kind::none:
    case Kind::absent:
      return nullptr;
    case Kind::boolean:
      return v.as<bool>();
    case Kind::integer:
      return v.as<std::int64_t>();
    case Kind::unsigned_integer:
      return v.to<std::uint64_t>();
    case Kind::real: {
      const double d = v.as<double>();
      if (std::isfinite(d)) return d;
      if (unsayable == Unsayable::refuse) throw Error(Errc::wrong_type, "JSON has no " + v.repr());
      return v.repr();
    }
    case Kind::string:
      return v.as<std::string>();
    case Kind::list: {
      Json list = Json::array();
      for (const Value& item : v.items()) list.push_back(encoded(item, unsayable, depth + 1));
      return list;
    }
    case Kind::map: {
      Json map = Json::object();
      for (const auto& [key, item] : v.entries()) map[key] = encoded(item, unsayable, depth + 1);
      return map;
    }
    case Kind::object:
      break;
  }
  if (unsayable == Unsayable::refuse)
    throw Error(Errc::wrong_type, "an object of type " + type_name(v.type()) + " is no JSON");
  return v.repr();
}

Value decoded(const Json& j) {
  switch (j.type()) {
    case Json::value_t::boolean:
      return j.get<bool>();
    case Json::value_t::number_integer:
      return j.get<std::int64_t>();
    case Json::value_t::number_unsigned:
      return j.get<std::uint64_t>();
    case Json::value_t::number_float:
      return j.get<double>();
    case Json::value_t::string:
      return j.get<std::string>();
    case Json::value_t::array: {
      List list;
      for (const Json& item : j) list.push_back(decoded(item));
      return list;
    }
    case Json::value_t::object: {
      Map map;
      for (const auto& [key, item] : j.items()) map.set(key, decoded(item));
      return map;
    }
    default:
      return nullptr;
  }
}

}  // namespace

std::string to_json(const Value& value, Unsayable unsayable) {
  return encoded(value, unsayable, 0).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Value from_json(std::string_view text) {
  // nlohmann::json parses without recursion, but the values would be taken apart with it.
  const Json::parser_callback_t guard = [](int level, Json::parse_event_t, Json&) {
    if (level > 200) throw Error(Errc::out_of_range, "nested too deeply");
    return true;
  };
  try {
    return decoded(Json::parse(text.begin(), text.end(), guard));
  } catch (const Json::parse_error& e) {
    std::string message = e.what();
    if (const std::size_t at = message.find("parse error"); at != std::string::npos) message = message.substr(at);
    throw Error(Errc::wrong_type, "this is no JSON: " + message);
  }
}

}  // namespace caller::tube
