// The kernel's side of a widget: its attributes, and what it says to pages.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <caller/kernel/comm.hpp>
#include <caller/kernel/widgets.hpp>

struct caller::widgets::Widget::State : std::enable_shared_from_this<State> {
  using json = nlohmann::json;

  /// Which class of the page's library it is.
  struct Kind {
    const char* name;                      // of the model, without "Model"
    const char* view;                      // of the view, without "View"; null: none
    const char* package;                   // after `@jupyter-widgets/`
    const char* style;                     // the model of its style, without "Model"; null: none
    const char* style_before_7 = nullptr;  // the same in ipywidgets 6
    const char* name_before_7 = nullptr;   // where it differs
  };

  const Kind kind;
  std::string id;
  Comm comm;
  std::shared_ptr<State> layout, style;

  std::mutex mutex;  // guards what follows, and the order of updates; no code of users runs under it
  json attributes = json::object();
  std::vector<std::function<void(const json&)>> on_change;
  std::vector<std::function<void()>> on_event;  // clicks, submitted texts
  struct Waiter {
    PendingBase pending;
    std::function<void(const json&)> done;
  };
  std::vector<Waiter> waiters;  // of the next change or click

  explicit State(const Kind& k) : kind(k) {}

  /// Makes it known to the pages.
  static std::shared_ptr<State> make(const Kind& kind, json attributes);
  void close();

  /// As a page of that age wants it; called under the mutex.
  json full_state(bool before_7) const;
  std::string repr();

  /// Changes by C++; throws std::invalid_argument. The page is told, then the callbacks are called.
  void change(const json& changes);
  json value(const char* name);
  void wait(PendingBase pending, std::function<void(const json&)> done);

private:
  void open();
  void received(const CommMessage& message);
  void changed_by_page(const json& changes);
  void send(const json& data);
  bool assign(const std::string& name, json value, json& accepted);
  void event();
  void tell(const json& value);
};

namespace caller::kernel::show {
using WidgetState = widgets::Widget::State;
/// All open widgets, oldest first.
std::vector<std::shared_ptr<WidgetState>> all_widgets();
std::shared_ptr<WidgetState> find_widget(const std::string& id);
/// Whether the page that spoke last has ipywidgets 6.
bool page_before_7();
}  // namespace caller::kernel::show
