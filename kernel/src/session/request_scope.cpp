#include "session/request_scope.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <utility>

#include "protocol/log.hpp"

namespace caller::kernel {
namespace {

WorkPtr make_work(Request request) {
  auto work = std::make_shared<Work>();
  work->request = std::move(request);
  return work;
}

std::string current_type_name() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (!type) return "unknown error";
  int status = 0;
  char* readable = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string out = status == 0 && readable ? readable : type->name();
  std::free(readable);
  return out;
}

}  // namespace

json error_content(const std::string& ename, const std::string& evalue, const std::vector<std::string>& traceback) {
  return {{"status", "error"}, {"ename", ename}, {"evalue", evalue}, {"traceback", traceback}};
}

json error_content_of_current() {
  try {
    throw;
  } catch (const std::exception& e) {
    const std::string name = current_type_name();
    return error_content(name, e.what(), {name + ": " + e.what()});
  } catch (...) {
    const std::string name = current_type_name();
    return error_content(name, "", {name});
  }
}

RequestScope::RequestScope(Session& session, Request request, Settle settle)
    : session_(session), work_(make_work(std::move(request))), settle_(std::move(settle)), context_(work_var(), work_) {
  session_.iopub().publish("status", work_->request, {{"execution_state", "busy"}});
}

void RequestScope::reply(const json& content, const json& metadata) {
  if (std::exchange(replied_, true)) {
    log(LogLevel::error, "a second reply to " + work_->request->type() + " was dropped");
    return;
  }
  try {
    if (settle_) settle_();
    session_.iopub().flush(work_->request);
    session_.reply(work_->request, content, metadata);
  } catch (const std::exception& e) {
    log(LogLevel::error, "replying to " + work_->request->type() + ": " + e.what());
  }
}

RequestScope::~RequestScope() {
  try {
    if (!replied_) reply(error_content("InternalError", "the request ended without an answer"));
    if (settle_) settle_();
    session_.iopub().finish(work_->request);
  } catch (const std::exception& e) {
    log(LogLevel::error, "ending " + work_->request->type() + ": " + e.what());
  }
}

}  // namespace caller::kernel
