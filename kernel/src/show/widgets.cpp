#include <caller/kernel/widgets.hpp>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include <caller/kernel/comm_host.hpp>
#include <caller/kernel/display.hpp>
#include <caller/kernel/widget_host.hpp>

#include "protocol/json_text.hpp"
#include "show/widget_model.hpp"

namespace caller::widgets {
namespace {

using json = nlohmann::json;
using Kind = Widget::State::Kind;

constexpr Kind kIntSlider{"IntSlider", "IntSlider", "controls", "SliderStyle", "SliderStyle"};
constexpr Kind kFloatSlider{"FloatSlider", "FloatSlider", "controls", "SliderStyle", "SliderStyle"};
constexpr Kind kIntProgress{"IntProgress", "Progress", "controls", "ProgressStyle", "ProgressStyle", "Progress"};
constexpr Kind kText{"Text", "Text", "controls", "DescriptionStyle"};
constexpr Kind kCheckbox{"Checkbox", "Checkbox", "controls", "DescriptionStyle"};
constexpr Kind kDropdown{"Dropdown", "Dropdown", "controls", "DescriptionStyle"};
constexpr Kind kLabel{"Label", "Label", "controls", "DescriptionStyle"};
constexpr Kind kHtml{"HTML", "HTML", "controls", "DescriptionStyle"};
constexpr Kind kButton{"Button", "Button", "controls", "ButtonStyle", "ButtonStyle"};
constexpr Kind kOutput{"Output", "Output", "output", nullptr};

template <class Options>
json slider(const char* name, const Options& o) {
  if (!(o.min <= o.max)) throw std::invalid_argument(std::string(name) + ": min is above max");
  if (!(o.step > 0)) throw std::invalid_argument(std::string(name) + ": the step is not positive");
  return {{"value", std::clamp(o.value, o.min, o.max)},
          {"min", o.min},
          {"max", o.max},
          {"step", o.step},
          {"description", o.description},
          {"continuous_update", o.continuous_update},
          {"orientation", "horizontal"},
          {"readout", true},
          {"disabled", false}};
}

json int_slider(const IntSliderOptions& o) {
  json out = slider("IntSlider", o);
  out["readout_format"] = "d";
  return out;
}

json float_slider(const FloatSliderOptions& o) {
  for (const double x : {o.value, o.min, o.max, o.step})
    if (!std::isfinite(x)) throw std::invalid_argument("FloatSlider: a setting is no number");
  json out = slider("FloatSlider", o);
  out["readout_format"] = ".2f";
  return out;
}

json int_progress(const IntProgressOptions& o) {
  if (o.min > o.max) throw std::invalid_argument("IntProgress: min is above max");
  return {{"value", std::clamp(o.value, o.min, o.max)},
          {"min", o.min},
          {"max", o.max},
          {"description", o.description},
          {"bar_style", o.bar_style},
          {"orientation", "horizontal"}};
}

json dropdown(const DropdownOptions& o) {
  json out = {{"_options_labels", o.options},
              {"description", o.description},
              {"disabled", false},
              {"index", nullptr},
              {"value", nullptr}};
  const auto at = std::find(o.options.begin(), o.options.end(), o.value);
  if (at == o.options.end() && !o.value.empty())
    throw std::invalid_argument("Dropdown: " + o.value + " is none of the options");
  if (!o.options.empty()) {
    const auto index = at == o.options.end() ? 0 : at - o.options.begin();
    out["index"] = index;
    out["value"] = o.options[static_cast<std::size_t>(index)];
  }
  return out;
}

json string_value(const std::string& value) {
  return {{"value", value}, {"description", ""}, {"placeholder", "\u200b"}};
}

json ids(const std::vector<Widget>& all) {
  json out = json::array();
  for (const Widget& w : all) out.push_back("IPY_MODEL_" + w.id());
  return out;
}

Kind box_kind(const char* name) { return {name, name, "controls", nullptr}; }

template <class T>
T from(const json& value) {
  return value.is_null() ? T() : value.get<T>();
}

}  // namespace

const std::string& Widget::id() const noexcept { return state_->id; }
bool Widget::is_open() const noexcept { return state_->comm.is_open(); }
void Widget::close() const { state_->close(); }

void Widget::set(const std::string& name, const std::string& text) const {
  if (kernel::nested_too_deep(text))
    throw std::invalid_argument("widget: the value of " + name + " is nested deeper than " +
                                std::to_string(kernel::kDeepestJson) + " levels");
  json value = kernel::parse_json(text);
  if (value.is_discarded()) throw std::invalid_argument("widget: the value of " + name + " is no JSON: " + text);
  state_->change({{name, std::move(value)}});
}

std::string Widget::get(const std::string& name) const {
  const std::lock_guard lock(state_->mutex);
  const auto it = state_->attributes.find(name);
  if (it == state_->attributes.end())
    throw std::invalid_argument(std::string(state_->kind.name) + " has no attribute " + name);
  return it->dump(-1, ' ', false, json::error_handler_t::replace);
}

void Widget::layout(const std::string& name, const std::string& value) const {
  state_->layout->change({{name, value}});
}
void Widget::description(const std::string& text) const { state_->change({{"description", text}}); }
void Widget::disable(bool on) const { state_->change({{"disabled", on}}); }

MimeBundle mime_bundle_repr(const Widget& x) {
  const std::string& id = x.id();
  return {{kernel::kWidgetView, R"({"version_major": 2, "version_minor": 0, "model_id": ")" + id + "\"}"},
          {"text/plain", kernel::show::find_widget(id) ? kernel::show::find_widget(id)->repr() : "(closed widget)"}};
}

template <class T>
T ValueWidget<T>::value() const {
  return from<T>(state_->value("value"));
}

template <class T>
void ValueWidget<T>::set_value(const T& value) const {
  if constexpr (std::is_same_v<T, double>)
    if (!std::isfinite(value)) throw std::invalid_argument("FloatSlider: the value is no number");
  state_->change({{"value", value}});
}

template <class T>
void ValueWidget<T>::on_change(std::function<void(const T&)> handler) const {
  const std::lock_guard lock(state_->mutex);
  state_->on_change.push_back([handler = std::move(handler)](const json& value) { handler(from<T>(value)); });
}

template <class T>
Pending<T> ValueWidget<T>::changed() const {
  Pending<T> out;
  state_->wait(out, [out](const json& value) { out.set_result(from<T>(value)); });
  return out;
}

template class ValueWidget<long long>;
template class ValueWidget<double>;
template class ValueWidget<bool>;
template class ValueWidget<std::string>;

IntSlider::IntSlider(const IntSliderOptions& o) : ValueWidget(State::make(kIntSlider, int_slider(o))) {}
FloatSlider::FloatSlider(const FloatSliderOptions& o) : ValueWidget(State::make(kFloatSlider, float_slider(o))) {}
IntProgress::IntProgress(const IntProgressOptions& o) : ValueWidget(State::make(kIntProgress, int_progress(o))) {}
Text::Text(const TextOptions& o)
    : ValueWidget(State::make(kText, {{"value", o.value},
                                      {"description", o.description},
                                      {"placeholder", o.placeholder.empty() ? "\u200b" : o.placeholder},
                                      {"continuous_update", o.continuous_update},
                                      {"disabled", false}})) {}
Checkbox::Checkbox(const CheckboxOptions& o)
    : ValueWidget(State::make(
          kCheckbox, {{"value", o.value}, {"description", o.description}, {"disabled", false}, {"indent", true}})) {}
Dropdown::Dropdown(const DropdownOptions& o) : ValueWidget(State::make(kDropdown, dropdown(o))) {}
Label::Label(const std::string& value) : ValueWidget(State::make(kLabel, string_value(value))) {}
HTML::HTML(const std::string& value) : ValueWidget(State::make(kHtml, string_value(value))) {}
Button::Button(const ButtonOptions& o)
    : Widget(State::make(kButton, {{"description", o.description},
                                   {"button_style", o.button_style},
                                   {"tooltip", o.tooltip},
                                   {"icon", o.icon},
                                   {"disabled", false}})) {}
Box::Box(const char* kind, const std::vector<Widget>& all)
    : Widget(State::make(box_kind(kind), {{"children", ids(all)}, {"box_style", ""}})) {}
Output::Output() : Widget(State::make(kOutput, {{"msg_id", ""}, {"outputs", json::array()}})) {}

void Text::on_submit(std::function<void(const std::string&)> handler) const {
  const std::lock_guard lock(state_->mutex);
  // Weak, as the state keeps the handler.
  state_->on_event.push_back([weak = std::weak_ptr<State>(state_), handler = std::move(handler)] {
    if (const auto state = weak.lock()) handler(from<std::string>(state->value("value")));
  });
}

void Button::on_click(std::function<void()> handler) const {
  const std::lock_guard lock(state_->mutex);
  state_->on_event.push_back(std::move(handler));
}

Pending<void> Button::clicked() const {
  Pending<void> out;
  state_->wait(out, [out](const json&) { out.set_result(); });
  return out;
}

void Box::children(const std::vector<Widget>& all) const { state_->change({{"children", ids(all)}}); }

Output::Capture::Capture(std::shared_ptr<State> state) : state_(std::move(state)) {
  before_ = from<std::string>(state_->value("msg_id"));
  auto* const host = kernel::comm_host();
  state_->change({{"msg_id", host ? host->request_id() : std::string()}});
}

Output::Capture::~Capture() {
  try {
    state_->change({{"msg_id", before_}});
  } catch (...) {  // memory is short; a destructor must not throw
  }
}

void Output::clear(bool wait) const {
  const Capture here = capture();
  clear_output(wait);
}

}  // namespace caller::widgets
