// Members of option structures as settings. Internal to tasks.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <caller/task/app.hpp>
#include <caller/task/config.hpp>

namespace caller::task {

/// The values of an enumeration by name; the first letter case does not matter.
template <class E>
struct EnumNames;
template <class E>
  requires std::is_enum_v<E>
struct ConfigType<E> {
  static std::string type() { return "choice"; }
  static std::vector<std::string> choices() {
    std::vector<std::string> out;
    for (const auto& [name, value] : EnumNames<E>::list) out.emplace_back(name);
    return out;
  }
  static std::string text(E value) {
    for (const auto& [name, one] : EnumNames<E>::list)
      if (one == value) return std::string(name);
    return "?";
  }
  static E read(const ConfigText& found) {
    std::string text = detail::read_text(found);
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    for (const auto& [name, value] : EnumNames<E>::list)
      if (name == text) return value;
    std::string expected = "one of";
    for (const auto& [name, value] : EnumNames<E>::list) expected += " " + std::string(name);
    detail::refuse(found, expected);
  }
};
template <>
struct EnumNames<Concurrency> {
  static constexpr std::array<std::pair<std::string_view, Concurrency>, 4> list{{{"disabled", Concurrency::DISABLED},
                                                                                 {"task", Concurrency::TASK},
                                                                                 {"arguments", Concurrency::ARGUMENTS},
                                                                                 {"keys", Concurrency::KEYS}}};
};
template <>
struct EnumNames<Format> {
  static constexpr std::array<std::pair<std::string_view, Format>, 2> list{
      {{"json", Format::json}, {"cbor", Format::cbor}}};
};
template <>
struct EnumNames<SqliteSync> {
  static constexpr std::array<std::pair<std::string_view, SqliteSync>, 3> list{
      {{"none", SqliteSync::none}, {"accepted", SqliteSync::accepted}, {"every", SqliteSync::every}}};
};
template <>
struct EnumNames<RedisVerify> {
  static constexpr std::array<std::pair<std::string_view, RedisVerify>, 3> list{
      {{"full", RedisVerify::full}, {"authority", RedisVerify::authority}, {"none", RedisVerify::none}}};
};
template <>
struct EnumNames<Severity> {
  static constexpr std::array<std::pair<std::string_view, Severity>, 4> list{{{"debug", Severity::debug},
                                                                              {"info", Severity::info},
                                                                              {"warning", Severity::warning},
                                                                              {"error", Severity::error}}};
};

/// Types of exceptions by name. A name means that type; of the standard library's and this module's bases also what is
/// derived from them.
template <>
struct ConfigType<std::vector<ErrorType>> {
  static std::string type() { return "list"; }
  static std::vector<std::string> items(const std::vector<ErrorType>& value) {
    std::vector<std::string> out;
    for (const auto& e : value) out.push_back(e.name);
    return out;
  }
  static std::vector<ErrorType> read(const ConfigText& found) {
    std::vector<ErrorType> out;
    for (const auto& name : detail::read_list(found)) out.push_back(error_type(name));
    return out;
  }
};

namespace detail {

/// Members of an `O`, each with a name, its default that of a new O.
template <class O>
class Bound {
public:
  explicit Bound(std::string class_name) : settings(std::move(class_name)) {}

  template <class Get>
  Bound& member(std::string field_name, Get get, std::string help) {
    using T = std::remove_reference_t<decltype(get(std::declval<O&>()))>;
    O fresh;
    settings.field(field_name, get(fresh), std::move(help));
    const auto text = [get](const O& from) {
      ConfigText out;
      const T& value = get(const_cast<O&>(from));
      if constexpr (requires { ConfigType<T>::items(value); }) {
        out.items = ConfigType<T>::items(value);
        out.list = true;
      } else {
        out.items = {ConfigType<T>::text(value)};
      }
      return out;
    };
    members_.push_back({std::move(field_name), text, [get](O& to, const ConfigText& found) {
                          T value = ConfigType<T>::read(found);
                          get(to) = std::move(value);
                        }});
    return *this;
  }
  Bound& also(std::string other_name, std::string unit) {
    settings.also(std::move(other_name), std::move(unit));
    return *this;
  }
  Bound& names_section() {
    settings.names_section();
    return *this;
  }

  /// What differs from a new O becomes an option of the program.
  void offer(Config& config, const O& options, const std::string& class_name, const std::string& task_id = {}) const {
    const O fresh;
    for (const auto& m : members_) {
      ConfigText text = m.text(options);
      if (text.items == m.text(fresh).items) continue;
      text.name = class_name + "." + m.name;
      config.option(std::move(text), task_id);
    }
  }
  /// What was found becomes the member's value, if it is another one.
  void take(const Config& config, O& options, std::string_view class_name, std::string_view task_id = {}) const {
    for (const auto& m : members_) {
      const ConfigText found = config.find(class_name, m.name, task_id);
      if (found.source != ConfigSource::fallback && found.items != m.text(options).items) m.set(options, found);
    }
  }

  ConfigClass settings;

private:
  struct Member {
    std::string name;
    std::function<ConfigText(const O&)> text;
    std::function<void(O&, const ConfigText&)> set;
  };
  std::vector<Member> members_;
};

const Bound<AppOptions>& app_settings();
const Bound<ClientDataOptions>& client_data_settings();
const Bound<TaskOptions>& task_settings();
const Bound<RunnerOptions>& runner_settings();
struct SqliteSettings {
  std::string path = "caller.db";
  SqliteOptions options{};
};
const Bound<SqliteSettings>& sqlite_settings();
const Bound<RedisOptions>& redis_settings();

}  // namespace detail
}  // namespace caller::task
