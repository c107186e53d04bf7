// Values as JSON text: how inputs come in and results go out.
#pragma once

#include <string>
#include <string_view>

#include <caller/export.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube {

/// What JSON cannot say: objects, infinities and not-a-number.
enum class Unsayable : unsigned char {
  refuse,    ///< an error
  describe,  ///< a text, like `<MyType>` or `inf`
};

/// One line of JSON. Sequences become arrays, maps objects, text that is no UTF-8 gets replacement characters.
/// Thread-safety: any thread. Errors: Error(wrong_type) for what JSON cannot say. Source: json.dumps.
CALLER_API std::string to_json(const Value& value, Unsayable unsayable = Unsayable::refuse);

/// Thread-safety: any thread. Errors: Error(wrong_type) with line and column where the text stops to be JSON. Source:
/// json.loads.
CALLER_API Value from_json(std::string_view text);

}  // namespace caller::tube
