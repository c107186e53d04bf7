// A call as stores are given it.
#pragma once

#include <string>

#include <caller/task/store.hpp>

inline caller::task::NewInvocation call(const std::string& id, const std::string& parent = {}) {
  caller::task::NewInvocation n;
  n.id = id;
  n.task_id = "t.task";
  n.call_id = "t.task#" + id;
  n.args = R"({"n":1})";
  n.parent_id = parent;
  n.queue = "default";
  return n;
}
