#include "show/widget_model.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <map>
#include <stdexcept>

#include <caller/kernel/comm_host.hpp>
#include <caller/kernel/widget_host.hpp>

namespace caller::kernel::show {
namespace {

using json = nlohmann::json;

std::atomic<bool> before_7{false};
std::atomic<unsigned> count{0};

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<WidgetState>> all;
};
Registry& registry() {
  static Registry* const one = new Registry;  // never destroyed: variables of cells may outlive everything else
  return *one;
}

std::string text_of(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::vector<std::shared_ptr<WidgetState>> all_widgets() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::vector<std::shared_ptr<WidgetState>> out;
  for (const auto& [id, state] : r.all) out.push_back(state);
  return out;
}

std::shared_ptr<WidgetState> find_widget(const std::string& id) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto it = r.all.find(id);
  return it == r.all.end() ? nullptr : it->second;
}

bool page_before_7() { return before_7.load(); }

}  // namespace caller::kernel::show

namespace caller::widgets {
using namespace kernel::show;
using json = nlohmann::json;

std::shared_ptr<Widget::State> Widget::State::make(const Kind& kind, json attributes) {
  auto state = std::make_shared<State>(kind);
  state->attributes = std::move(attributes);
  if (kind.view) {
    state->layout = make({"Layout", nullptr, "base", nullptr}, json::object());
    if (kind.style) {
      const char* const before = kind.style_before_7;
      state->style = make({kind.style, nullptr, "controls", nullptr, nullptr, before}, json::object());
    }
  }
  // Pages with ipywidgets 6 restore widgets by the order of their names, and need children before parents.
  char number[16];
  std::snprintf(number, sizeof number, "w%08x-", ++count);
  auto* const host = kernel::comm_host();
  state->id = number + (host ? host->new_id() : std::string("none"));
  state->open();
  return state;
}

void Widget::State::open() {
  {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    r.all[id] = shared_from_this();
  }
  const bool before = page_before_7();
  const json state = full_state(before);
  CommOptions options;
  options.id = id;
  options.message.data = text_of(before ? state : json{{"state", state}, {"buffer_paths", json::array()}});
  options.message.metadata = before ? "{}" : R"({"version": "2.1.0"})";
  // The registry keeps it, so the comm need not.
  const std::weak_ptr<State> weak = weak_from_this();
  options.on_message = [weak](const CommMessage& m) {
    if (const auto self = weak.lock()) self->received(m);
  };
  options.on_close = [weak] {
    if (const auto self = weak.lock()) self->close();
  };
  comm = Comm("jupyter.widget", std::move(options));
}

void Widget::State::close() {
  std::shared_ptr<State> kept;
  {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    const auto it = r.all.find(id);
    if (it == r.all.end()) return;
    kept = std::move(it->second);
    r.all.erase(it);
  }
  comm.close();
  std::vector<Waiter> waiting;
  {
    const std::lock_guard lock(mutex);
    waiting.swap(waiters);
  }
  for (Waiter& w : waiting) w.pending.cancel("the widget was closed");
  if (layout) layout->close();
  if (style) style->close();
}

json Widget::State::full_state(bool before) const {
  json out = attributes;
  const std::string name = before && kind.name_before_7 ? kind.name_before_7 : kind.name;
  const std::string package = before ? "jupyter-js-widgets" : std::string("@jupyter-widgets/") + kind.package;
  out["_model_name"] = name + "Model";
  out["_model_module"] = package;
  // Any version: the names used here are the same in all of them, and a page has one.
  out["_model_module_version"] = "*";
  out["_view_module"] = package;
  out["_view_module_version"] = "*";
  out["_view_name"] = nullptr;
  if (kind.view)
    out["_view_name"] = std::string(kind.view) + "View";
  else if (out["_model_name"] == "LayoutModel")
    out["_view_name"] = "LayoutView";
  else
    out["_view_name"] = "StyleView";
  if (!kind.view) return out;
  if (!before) out["_view_count"] = nullptr;
  out["_dom_classes"] = json::array();
  out["layout"] = "IPY_MODEL_" + layout->id;
  if (style && (!before || kind.style_before_7)) out["style"] = "IPY_MODEL_" + style->id;
  return out;
}

std::string Widget::State::repr() {
  const std::lock_guard lock(mutex);
  std::string out = std::string(kind.name) + "(";
  bool first = true;
  for (const char* name : {"value", "min", "max", "description"}) {
    const auto it = attributes.find(name);
    if (it == attributes.end() || (it->is_string() && it->get_ref<const std::string&>().empty())) continue;
    out += (first ? "" : ", ") + std::string(name) + "=" + text_of(*it);
    first = false;
  }
  if (const auto it = attributes.find("children"); it != attributes.end())
    out += std::to_string(it->size()) + (it->size() == 1 ? " child" : " children");
  return out + ")";
}

void Widget::State::send(const json& data) { comm.send(text_of(data)); }

// Takes one attribute as the control wants it; false: the control has no such value. A choice has two names, by age.
bool Widget::State::assign(const std::string& name, json value, json& accepted) {
  const auto set = [&](const std::string& n, json v) {
    if (attributes[n] == v && attributes[n].type() == v.type()) return;
    attributes[n] = v;
    accepted[n] = std::move(v);
  };
  const auto options = attributes.find("_options_labels");
  if (options != attributes.end() && name == "index") {
    if (!value.is_number_integer() || value < 0 || value >= options->size()) return false;
    const json text = (*options)[value.get<std::size_t>()];
    set("index", std::move(value));
    set("value", text);
    return true;
  }
  if (options != attributes.end() && name == "value") {
    const auto at = std::find(options->begin(), options->end(), value);
    if (at == options->end()) return false;
    set("index", at - options->begin());
    set("value", std::move(value));
    return true;
  }
  const auto old = attributes.find(name);
  const bool bounded = old != attributes.end() && old->is_number() && attributes.contains("max");
  if (name == "value" && old != attributes.end()) {
    if (old->is_number() != value.is_number() || (!old->is_number() && old->type() != value.type())) return false;
    if (old->is_number_float()) value = value.get<double>();
    if (old->is_number_integer() && value.is_number_float()) value = std::llround(value.get<double>());
    if (bounded) value = std::clamp(value, attributes["min"], attributes["max"]);
    set("value", std::move(value));
    return true;
  }
  if ((name == "min" || name == "max") && bounded) {
    if (!value.is_number()) return false;
    if (old->is_number_float()) value = value.get<double>();
    if (name == "min" ? value > attributes["max"] : value < attributes["min"]) return false;
    set(name, std::move(value));
    set("value", std::clamp(attributes["value"], attributes["min"], attributes["max"]));
    return true;
  }
  set(name, std::move(value));
  return true;
}

void Widget::State::change(const json& changes) {
  json accepted = json::object();
  {
    const std::lock_guard lock(mutex);
    for (const auto& [name, value] : changes.items())
      if (!assign(name, value, accepted))
        throw std::invalid_argument(std::string(kind.name) + ": " + name + " cannot be " + text_of(value));
    if (accepted.empty()) return;
    send({{"method", "update"}, {"state", accepted}, {"buffer_paths", json::array()}});
  }
  if (accepted.contains("value")) tell(accepted["value"]);
}

void Widget::State::changed_by_page(const json& changes) {
  json accepted = json::object();
  {
    const std::lock_guard lock(mutex);
    json corrected = json::object();
    for (const auto& [name, value] : changes.items()) {
      // What a page says of its own classes and of other widgets is not ours to change.
      if (!attributes.contains(name)) continue;
      if (!assign(name, value, accepted) || attributes[name] != value) corrected[name] = attributes[name];
    }
    // Pages that show the same control learn of it; one that sent it knows by this that it was taken.
    if (!page_before_7()) {
      json echo = json::object();
      for (const auto& [name, value] : changes.items())
        if (attributes.contains(name) && !corrected.contains(name)) echo[name] = value;
      if (!echo.empty()) send({{"method", "echo_update"}, {"state", echo}, {"buffer_paths", json::array()}});
    }
    for (const char* name : {"index", "value"})  // the other name of a choice
      if (accepted.contains(name) && !changes.contains(name)) corrected[name] = accepted[name];
    if (!corrected.empty()) send({{"method", "update"}, {"state", corrected}, {"buffer_paths", json::array()}});
  }
  if (accepted.contains("value")) tell(accepted["value"]);
}

void Widget::State::received(const CommMessage& message) {
  const json data = json::parse(message.data, nullptr, false);
  if (!data.is_object()) return;
  const auto text = [](const json& object, const char* name) {
    const auto it = object.find(name);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const auto object = [&](const char* name) {
    const auto it = data.find(name);
    return it != data.end() && it->is_object() ? *it : json::object();
  };
  const std::string method = text(data, "method");
  if (method == "update") return changed_by_page(object("state"));
  if (method == "backbone") return changed_by_page(object("sync_data"));  // ipywidgets 6
  if (method == "request_state") {
    const std::lock_guard lock(mutex);
    return send({{"method", "update"}, {"state", full_state(page_before_7())}, {"buffer_paths", json::array()}});
  }
  if (method == "custom") {
    const std::string what = text(object("content"), "event");
    if (what == "click" || what == "submit") event();
  }
}

void Widget::State::event() {
  std::vector<std::function<void()>> handlers;
  std::vector<Waiter> waiting;
  {
    const std::lock_guard lock(mutex);
    handlers = on_event;
    if (!attributes.contains("value")) waiting.swap(waiters);  // of a text field they wait for its value
  }
  for (const Waiter& w : waiting) w.done(nullptr);
  for (const auto& handler : handlers) handler();
}

void Widget::State::tell(const json& new_value) {
  std::vector<std::function<void(const json&)>> handlers;
  std::vector<Waiter> waiting;
  {
    const std::lock_guard lock(mutex);
    handlers = on_change;
    waiting.swap(waiters);
  }
  for (const Waiter& w : waiting) w.done(new_value);
  for (const auto& handler : handlers) handler(new_value);
}

json Widget::State::value(const char* name) {
  const std::lock_guard lock(mutex);
  return attributes.at(name);
}

void Widget::State::wait(PendingBase pending, std::function<void(const json&)> done) {
  {
    const std::lock_guard lock(mutex);
    std::erase_if(waiters, [](const Waiter& w) { return w.pending.done(); });
    if (comm.is_open() || !kernel::comm_host()) {
      waiters.push_back({std::move(pending), std::move(done)});
      return;
    }
  }
  pending.cancel("the widget is closed");
}

}  // namespace caller::widgets

namespace caller::kernel {
using namespace show;

void serve_widgets() {
  // ipywidgets 6 asks whether it is understood; later ones do not, and ask for all widgets at once.
  comm_target("jupyter.widget.version", [](const Comm& comm, const CommMessage&) {
    before_7 = true;
    comm.send(R"({"version": "~2.1.4"})");
  });
  comm_target("jupyter.widget.control", [](const Comm& comm, const CommMessage&) {
    before_7 = false;
    comm.on_message([comm](const CommMessage& m) {
      const json data = json::parse(m.data, nullptr, false);
      if (!data.is_object() || data.value("method", json()) != "request_states") return;
      json states = json::object();
      for (const auto& w : all_widgets()) {
        const std::lock_guard lock(w->mutex);
        json state = w->full_state(false);
        states[w->id] = {{"model_name", state["_model_name"]},
                         {"model_module", state["_model_module"]},
                         {"model_module_version", state["_model_module_version"]},
                         {"state", state}};
      }
      comm.send(text_of({{"method", "update_states"}, {"states", states}, {"buffer_paths", json::array()}}));
    });
  });
}

bool widget_shown(const std::string& id) {
  if (!page_before_7()) return false;
  if (const auto w = find_widget(id)) w->comm.send(R"({"method": "display"})");
  return true;
}

}  // namespace caller::kernel
