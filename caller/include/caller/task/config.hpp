// Settings: typed fields with defaults, and from which of several places a value comes.
//
//   Config config;                                         // environment, caller.toml in the working directory
//   config.add(ConfigClass("mail", {}).field("port", 25, "where letters are taken").field("retry_after", 5s, "…"));
//   int port = config.get<int>("mail", "port");            // CALLER__MAIL__PORT, [mail] port = … of a file, or 25
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/error.hpp>

namespace caller::task {

/// Where a value comes from, the least important first: each goes before those above it.
enum class ConfigSource : std::uint8_t {
  fallback,           ///< the field's default
  option,             ///< what the program was written with: options of the builder, of a task, of a runner
  working_directory,  ///< caller.toml of the working directory
  file,               ///< `config_filepath`
  environment_file,   ///< the file that CALLER__FILEPATH names
  environment,        ///< CALLER__FIELD
  environment_class,  ///< CALLER__CLASS__FIELD
  environment_task,   ///< CALLER__TASK__MODULE#FUNCTION__FIELD
  assigned,           ///< Config::assign()
};
/// In words. Thread-safety: any thread. Errors: none. Source: –
CALLER_API std::string_view name(ConfigSource source) noexcept;

/// A value as it was found.
struct ConfigText {
  std::string name;                              ///< of its field: "runner.slots"
  std::vector<std::string> items;                ///< one, unless it is a list
  bool list = false;                             ///< whether it is one
  ConfigSource source = ConfigSource::fallback;  ///< where it was found
  std::string where;                             ///< the variable, or the file and its line; empty: see source

  /// For people; a list with commas between.
  CALLER_API std::string text() const;
  /// "(CALLER__RUNNER__SLOTS)" or "(caller.toml:3)".
  CALLER_API std::string place() const;
};

/// How values of a type are written: `type` in words, `text(value)`, and `read(found)`, which throws a ConfigError.
/// There are: bool, whole numbers, double, std::string, std::vector<std::string>, durations of chrono.
template <class T>
struct ConfigType;

namespace detail {
/// Errors: ConfigError "runner.slots: expected …, found "x" (place)".
[[noreturn]] CALLER_API void refuse(const ConfigText& found, const std::string& expected);
CALLER_API bool read_boolean(const ConfigText& found);
CALLER_API std::int64_t read_integer(const ConfigText& found, std::int64_t least, std::int64_t most);
CALLER_API double read_real(const ConfigText& found);
CALLER_API std::string read_text(const ConfigText& found);
CALLER_API std::vector<std::string> read_list(const ConfigText& found);
CALLER_API std::chrono::nanoseconds read_duration(const ConfigText& found);
CALLER_API std::string duration_text(std::chrono::nanoseconds time);
CALLER_API std::string real_text(double value);
}  // namespace detail

/// `true`, `yes`, `on`, `1` and their opposites.
template <>
struct ConfigType<bool> {
  /// In words.
  static std::string type() { return "true or false"; }
  /// As it is written.
  static std::string text(bool value) { return value ? "true" : "false"; }
  /// Errors: ConfigError.
  static bool read(const ConfigText& found) { return detail::read_boolean(found); }
};
/// Within the limits of the type.
template <std::integral T>
struct ConfigType<T> {
  /// In words.
  static std::string type() { return "whole number"; }
  /// As it is written.
  static std::string text(T value) { return std::to_string(value); }
  /// Errors: ConfigError.
  static T read(const ConfigText& found) {
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    constexpr auto most = std::numeric_limits<T>::max();
    return static_cast<T>(detail::read_integer(found, static_cast<std::int64_t>(std::numeric_limits<T>::min()),
                                               std::cmp_less(most, kMost) ? static_cast<std::int64_t>(most) : kMost));
  }
};
/// A number.
template <>
struct ConfigType<double> {
  /// In words.
  static std::string type() { return "number"; }
  /// As it is written.
  static std::string text(double value) { return detail::real_text(value); }
  /// Errors: ConfigError.
  static double read(const ConfigText& found) { return detail::read_real(found); }
};
/// Any text.
template <>
struct ConfigType<std::string> {
  /// In words.
  static std::string type() { return "text"; }
  /// As it is written.
  static std::string text(const std::string& value) { return value; }
  /// Errors: ConfigError.
  static std::string read(const ConfigText& found) { return detail::read_text(found); }
};
/// With commas between, or a list of the file.
template <>
struct ConfigType<std::vector<std::string>> {
  /// In words.
  static std::string type() { return "list"; }
  /// As its items are written.
  static std::vector<std::string> items(const std::vector<std::string>& value) { return value; }
  /// Errors: ConfigError.
  static std::vector<std::string> read(const ConfigText& found) { return detail::read_list(found); }
};
/// Written with its unit: `250ms`, `10s`, `5min`, `24h`.
template <class R, class P>
struct ConfigType<std::chrono::duration<R, P>> {
  /// The type.
  using Duration = std::chrono::duration<R, P>;
  /// In words.
  static std::string type() { return "duration"; }
  /// As it is written.
  static std::string text(Duration value) { return detail::duration_text(value); }
  /// Errors: ConfigError.
  static Duration read(const ConfigText& found) {
    const auto time = detail::read_duration(found);
    const auto out = std::chrono::duration_cast<Duration>(time);
    if (out != time) detail::refuse(found, "whole multiples of " + detail::duration_text(Duration(1)));
    return out;
  }
};

/// One setting.
struct ConfigField {
  std::string name, type, help;      ///< as it is written; its type and meaning in words
  ConfigText fallback;               ///< the default
  std::vector<std::string> choices;  ///< if only these are allowed
  /// Another name, under which numbers stand without their unit: {"max_pending_seconds", "s"}.
  std::vector<std::pair<std::string, std::string>> other_names;
  /// `[runner] name = "thread"` means what `runner = "thread"` means.
  bool names_section = false;
  std::function<void(const ConfigText&)> check;  ///< throws what reading it would throw
};

/// Settings that belong together: a section of a file, and CLASS in the names of variables. What a class does not find
/// under its own name it takes from that of its parents, which are classes, too.
/// Thread-safety: as any value. Errors: none. Source: cistell ConfigBase.
class CALLER_API ConfigClass {
public:
  /// Without fields yet.
  explicit ConfigClass(std::string class_name, std::vector<std::string> of_parents = {})
      : name(std::move(class_name)), parents(std::move(of_parents)) {}

  /// Adds a field.
  template <class T>
  ConfigClass& field(std::string field_name, const T& fallback, std::string help) {
    ConfigField f;
    f.name = std::move(field_name);
    f.type = ConfigType<T>::type();
    f.help = std::move(help);
    if constexpr (requires { ConfigType<T>::items(fallback); }) {
      f.fallback.items = ConfigType<T>::items(fallback);
      f.fallback.list = true;
    } else {
      f.fallback.items = {ConfigType<T>::text(fallback)};
    }
    f.check = [](const ConfigText& found) { (void)ConfigType<T>::read(found); };
    if constexpr (requires { ConfigType<T>::choices(); }) f.choices = ConfigType<T>::choices();
    fields.push_back(std::move(f));
    return *this;
  }
  /// Adds a field of text.
  ConfigClass& field(std::string field_name, const char* fallback, std::string help) {
    return field(std::move(field_name), std::string(fallback), std::move(help));
  }
  /// Of the last field.
  ConfigClass& also(std::string other_name, std::string unit) {
    fields.back().other_names.emplace_back(std::move(other_name), std::move(unit));
    return *this;
  }
  /// Of the last field; see ConfigField::names_section.
  ConfigClass& names_section() {
    fields.back().names_section = true;
    return *this;
  }

  std::string name;                  ///< of the section
  std::vector<std::string> parents;  ///< classes, the nearest first
  std::vector<ConfigField> fields;   ///< its own
};

/// Where a Config looks.
struct ConfigSources {
  std::map<std::string, std::string, std::less<>> environment{};  ///< those that begin with CALLER__
  std::string filepath{};                                         ///< YAML, TOML or JSON, by its ending; empty: none
  std::string folder{};                                           ///< where caller.toml may lie; empty: nowhere

  /// The environment as it is now, and the working directory. Thread-safety: not while the environment changes.
  CALLER_API static ConfigSources of_process(std::string filepath = {});
};

/// Values of all classes that it was told of. Files are read once, when it is made.
///
/// A value goes to the first of: assign(); CALLER__TASK__MODULE#FUNCTION__FIELD; CALLER__CLASS__FIELD; CALLER__FIELD;
/// the file CALLER__FILEPATH; `config_filepath`; caller.toml; options; the default. Within one file: the task's section
/// `[task."module.function"]`, the class's, its parents', the top.
///
/// Thread-safety: const functions in any thread. Errors: ConfigError for a file that is not there or cannot be read;
/// see each function. Source: pynenc ConfigPynencBase and cistell; differs: booleans are read strictly, unknown keys
/// are told, each value knows where it came from.
class CALLER_API Config {
public:
  /// Without classes yet. Errors: ConfigError.
  explicit Config(ConfigSources sources = ConfigSources::of_process());
  Config(const Config&);
  Config(Config&&) noexcept;
  Config& operator=(Config) noexcept;
  ~Config();

  /// Errors: ConfigMultiInheritanceError when two parents have the same field; ConfigError for an unknown parent, or a
  /// class of that name that is there already.
  void add(ConfigClass c);
  /// Whether there is such a class.
  bool knows(std::string_view class_name) const;

  /// Goes before everything else. `name`: "slots" or "runner.slots". Errors: ConfigError for an unknown name, with the
  /// nearest.
  void assign(std::string_view name, std::string value, std::string task_id = {});
  /// The same for any value.
  void assign(ConfigText value, std::string task_id = {});
  /// What the program was written with; only the default comes after it. Errors: as assign().
  void option(std::string_view name, std::string value, std::string task_id = {});
  /// The same for any value.
  void option(ConfigText value, std::string task_id = {});

  /// Errors: ConfigError for an unknown class or field.
  ConfigText find(std::string_view class_name, std::string_view field, std::string_view task_id = {}) const;
  /// Errors: as find(), and ConfigError for what is no T.
  template <class T>
  T get(std::string_view class_name, std::string_view field, std::string_view task_id = {}) const {
    return ConfigType<T>::read(find(class_name, field, task_id));
  }
  /// Every value of a class, or of all of them. What looks like a password is not shown.
  std::vector<ConfigText> show(std::string_view class_name = {}, std::string_view task_id = {}) const;
  /// All of them.
  const std::vector<ConfigClass>& classes() const noexcept;

  /// Names nobody knows, one sentence each, with the nearest one that is known.
  std::vector<std::string> warnings() const;
  /// Values of a class that cannot be read, one sentence each.
  std::vector<std::string> mistakes(std::string_view class_name, std::string_view task_id = {}) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace caller::task
