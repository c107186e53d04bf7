// Controls on the page whose values C++ reads and sets: the jupyter.widget protocol of ipywidgets.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <caller/export.hpp>
#include <caller/kernel/values.hpp>
#include <caller/pending.hpp>

namespace caller::widgets {

/// A control. Shown like any value, any number of times; all views are one control.
///
/// A handle: copies are the same control, which lives until it is closed, with or without handles. What a page changes
/// arrives while the cell awaits or is done, on the Caller of the shell; callbacks run there, and what they print
/// belongs to the page's message.
///
/// Thread-safety: any thread, also on one control; callbacks run one after the other where changes come one after the
/// other.
/// Cancel-safety: an interrupt ends a callback; the control stays.
/// Errors: std::invalid_argument for a value that is none of the control's. A closed control keeps its last value.
/// Source: ipywidgets Widget; pages with ipywidgets 6, 7 and 8 are served.
class CALLER_API Widget {
public:
  const std::string& id() const noexcept;
  bool is_open() const noexcept;
  /// Removes it from all pages; what waits for it is cancelled.
  void close() const;

  /// Any attribute of the model, such as `set("button_style", R"("danger")")`, as JSON.
  /// Errors: std::invalid_argument for what is no JSON; get: for a name that is not there.
  void set(const std::string& name, const std::string& json) const;
  std::string get(const std::string& name) const;

  /// A property of the style sheet, such as `layout("width", "20em")`, in the names of ipywidgets' Layout.
  void layout(const std::string& name, const std::string& value) const;
  void description(const std::string& text) const;
  void disable(bool on = true) const;

  friend bool operator==(const Widget&, const Widget&) = default;

  struct State;

protected:
  explicit Widget(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};
CALLER_API MimeBundle mime_bundle_repr(const Widget& x);

/// A control with a value.
///
/// Thread-safety, Cancel-safety, Errors: as Widget.
/// Source: ipywidgets ValueWidget; differs: typed, and changes can be awaited.
template <class T>
class ValueWidget : public Widget {
public:
  T value() const;
  /// Numbers are brought into the range of the control. Errors: std::invalid_argument for a number that is none, or a
  /// name that is not one of the options.
  void set_value(const T& value) const;
  /// Adds a function that is called after every change, by the page or by set_value.
  void on_change(std::function<void(const T&)> handler) const;
  /// The next change: `double x = co_await slider.changed();`. Cancelled when the control is closed.
  Pending<T> changed() const;

protected:
  using Widget::Widget;
};
extern template class CALLER_API ValueWidget<long long>;
extern template class CALLER_API ValueWidget<double>;
extern template class CALLER_API ValueWidget<bool>;
extern template class CALLER_API ValueWidget<std::string>;

/// The options of the controls. Thread-safety: plain data. Errors: none. Source: ipywidgets.
struct IntSliderOptions {
  long long value = 0, min = 0, max = 100, step = 1;
  std::string description = {};
  bool continuous_update = true;  ///< changes arrive while the slider is held, else when it is let go
};
struct FloatSliderOptions {
  double value = 0, min = 0, max = 10, step = 0.1;
  std::string description = {};
  bool continuous_update = true;
};
struct IntProgressOptions {
  long long value = 0, min = 0, max = 100;
  std::string description = {};
  std::string bar_style = {};  ///< success, info, warning, danger, or empty
};
struct TextOptions {
  std::string value = {};
  std::string description = {};
  std::string placeholder = {};
  bool continuous_update = true;
};
struct CheckboxOptions {
  bool value = false;
  std::string description = {};
};
struct DropdownOptions {
  std::vector<std::string> options = {};
  std::string value = {};  ///< empty: the first option
  std::string description = {};
};
struct ButtonOptions {
  std::string description = {};
  std::string button_style = {};  ///< primary, success, info, warning, danger, or empty
  std::string tooltip = {};
  std::string icon = {};
};

/// The controls. Errors of the constructors: std::invalid_argument when min is above max, a step is not positive, or a
/// value is none of the options. Thread-safety: as Widget. Source: the ipywidgets of these names.
class CALLER_API IntSlider : public ValueWidget<long long> {
public:
  explicit IntSlider(const IntSliderOptions& options = {});
};
class CALLER_API FloatSlider : public ValueWidget<double> {
public:
  explicit FloatSlider(const FloatSliderOptions& options = {});
};
class CALLER_API IntProgress : public ValueWidget<long long> {
public:
  explicit IntProgress(const IntProgressOptions& options = {});
};
class CALLER_API Text : public ValueWidget<std::string> {
public:
  explicit Text(const TextOptions& options = {});
  /// Called when the page's user presses Enter in it.
  void on_submit(std::function<void(const std::string&)> handler) const;
};
class CALLER_API Checkbox : public ValueWidget<bool> {
public:
  explicit Checkbox(const CheckboxOptions& options = {});
};
/// The value is the text of the option that is chosen.
class CALLER_API Dropdown : public ValueWidget<std::string> {
public:
  explicit Dropdown(const DropdownOptions& options = {});
};
class CALLER_API Label : public ValueWidget<std::string> {
public:
  explicit Label(const std::string& value = {});
};
class CALLER_API HTML : public ValueWidget<std::string> {
public:
  explicit HTML(const std::string& value = {});
};
class CALLER_API Button : public Widget {
public:
  explicit Button(const ButtonOptions& options = {});
  void on_click(std::function<void()> handler) const;
  /// The next click: `co_await button.clicked();`.
  Pending<void> clicked() const;
};

/// Others beside or below one another.
class CALLER_API Box : public Widget {
public:
  void children(const std::vector<Widget>& all) const;

protected:
  Box(const char* kind, const std::vector<Widget>& all);
};
class CALLER_API HBox : public Box {
public:
  explicit HBox(const std::vector<Widget>& all = {}) : Box("HBox", all) {}
};
class CALLER_API VBox : public Box {
public:
  explicit VBox(const std::vector<Widget>& all = {}) : Box("VBox", all) {}
};

/// A place for output: `{ auto here = output.capture(); std::cout << …; caller::display(…); }`.
///
/// While a capture lives, all that the running cell or callback shows goes there, also what its other threads show.
///
/// Thread-safety, Errors: as Widget. Source: ipywidgets Output.
class CALLER_API Output : public Widget {
public:
  Output();

  class CALLER_API Capture {
  public:
    ~Capture();
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

  private:
    friend class Output;
    explicit Capture(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
    std::string before_;
  };
  [[nodiscard]] Capture capture() const { return Capture(state_); }
  void clear(bool wait = false) const;
};

}  // namespace caller::widgets
