#include "condition.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace caller::task {

// ---- payloads ----

Payload::Payload(std::initializer_list<Field> fields) {
  Writer w(Format::json, &text_);
  w.map(fields.size());
  for (const Field& f : fields) {
    w.key(f.name);
    w.raw(f.json);
  }
}

Payload Payload::json(std::string text) {
  const Document document(Format::json, text);
  if (document.root().kind() != Reader::Kind::map) document.root().fail("a map");
  Payload out;
  out.text_ = std::move(text);
  return out;
}

// ---- matches ----

Time Match::at() const noexcept {
  Time out{};
  for (const MatchPart& p : parts_) out = std::max(out, p.at);
  return out;
}

const MatchPart& Match::first(ConditionKind kind) const {
  for (const MatchPart& p : parts_)
    if (p.kind == kind) return p;
  throw SerializationError(kind == ConditionKind::event ? "the trigger did not act on an event"
                                                        : "the trigger did not act on a task's invocation");
}

// ---- conditions ----

namespace detail {

namespace {

std::string quoted(const std::string& text) { return to_bytes(Format::json, text); }

nlohmann::json parsed(Format format, const std::string& bytes) {
  auto out = format == Format::json ? nlohmann::json::parse(bytes, nullptr, false)
                                    : nlohmann::json::from_cbor(bytes, true, false);
  if (!out.is_object()) throw SerializationError("no map of names and values");
  return out;
}

bool has_fields(const std::string& wanted, Format format, const std::string& bytes) {
  (void)Document(format, bytes);  // whose depth is bounded
  const auto there = parsed(format, bytes);
  const auto fields = parsed(Format::json, wanted);
  for (const auto& [name, value] : fields.items()) {
    const auto it = there.find(name);
    if (it == there.end() || *it != value) return false;
  }
  return true;
}

Condition leaf(ConditionNode node) { return Condition(std::make_shared<const ConditionNode>(std::move(node))); }

}  // namespace

std::string text_of(const ConditionNode& node) {
  if (node.is_leaf()) return node.words;
  std::string out;
  for (const auto& child : node.children) out += (out.empty() ? "" : ", ") + text_of(*child);
  return (node.kind == ConditionNode::Kind::all ? "all_of(" : "any_of(") + out + ")";
}

bool matches(const ConditionNode& leaf, const MatchPart& part) {
  if (!leaf.fields.empty()) {
    const bool event = part.kind == ConditionKind::event;
    if (!has_fields(leaf.fields, event ? Format::json : part.format, event ? part.payload : part.args)) return false;
  }
  for (const auto& f : leaf.only)
    if (!f(part)) return false;
  return true;
}

Condition change_of(const std::string& what, const std::string& task_id, std::vector<Status> statuses,
                    const std::string& words, std::vector<std::function<bool(const MatchPart&)>> only) {
  if (statuses.empty()) throw ConfigError("a condition on states of task " + task_id + " names none");
  ConditionNode node;
  node.kind = ConditionNode::Kind::change;
  node.source = task_id;
  for (const Status s : statuses) node.statuses |= 1u << static_cast<unsigned>(s);
  node.only = std::move(only);
  node.opaque = words == "function";
  node.words = what + "(" + quoted(task_id) + (words.empty() ? "" : " " + words) + ")";
  return leaf(std::move(node));
}

bool type_is(const MatchPart& part, const std::vector<std::string>& types) {
  const std::string type = part.error().type;
  return std::any_of(types.begin(), types.end(),
                     [&](const std::string& t) { return type == t || type.ends_with("::" + t); });
}

std::string quoted_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const auto& t : texts) out += (out.empty() ? "" : "|") + quoted(t);
  return out;
}

Condition combined(bool all, std::vector<Condition> conditions) {
  ConditionNode node;
  node.kind = all ? ConditionNode::Kind::all : ConditionNode::Kind::any;
  for (const Condition& c : conditions) node.children.push_back(c.node());
  return leaf(std::move(node));
}

}  // namespace detail

Condition cron(const std::string& fields, CronOptions options) {
  detail::ConditionNode node;
  node.kind = detail::ConditionNode::Kind::cron;
  if (options.late < std::chrono::seconds(1)) throw ConfigError("cron \"" + fields + "\": late: less than a second");
  node.schedule = std::make_shared<const detail::CronSchedule>(fields, options.zone);
  node.late = options.late;
  node.words = "cron(" + detail::quoted(fields) + " " + options.zone + ")";
  return detail::leaf(std::move(node));
}

Condition event(const std::string& name, const Payload& filter) {
  detail::ConditionNode node;
  node.kind = detail::ConditionNode::Kind::event;
  node.source = name;
  const bool any = filter.text() == Payload().text();
  if (!any) node.fields = filter.text();
  node.words = "event(" + detail::quoted(name) + (any ? "" : " " + filter.text()) + ")";
  return detail::leaf(std::move(node));
}

Condition Condition::where(std::function<bool(const MatchPart&)> f) const {
  if (!node_->is_leaf()) throw ConfigError("where: all_of and any_of match by their parts: " + text());
  detail::ConditionNode node = *node_;
  node.only.push_back(std::move(f));
  node.opaque = true;
  node.words += " where function";
  return detail::leaf(std::move(node));
}

Condition Condition::with_arguments(const Payload& arguments) const {
  if (node_->kind != detail::ConditionNode::Kind::change)
    throw ConfigError("with_arguments: for conditions on tasks alone: " + text());
  detail::ConditionNode node = *node_;
  node.fields = arguments.text();
  node.words += " with " + arguments.text();
  return detail::leaf(std::move(node));
}

std::string Condition::text() const { return detail::text_of(*node_); }

}  // namespace caller::task
