#include <caller/monitor/monitor.hpp>

#include <stdexcept>

#include <nlohmann/json.hpp>

#include "api.hpp"
#include "assets.hpp"
#include "guard.hpp"
#include "http.hpp"
#include "watch.hpp"

namespace caller::monitor {

namespace {

Response failure(int status, std::string_view text) {
  Response out;
  out.status = status;
  out.body = dumped(error_json("BadRequest", text)) + "\n";
  return out;
}

MonitorOptions checked(MonitorOptions o) {
  if (!is_address(o.address))
    throw std::invalid_argument("\"" + o.address + "\" is no address in numbers, as 127.0.0.1 is");
  if (!o.allow_remote && !is_loopback(o.address))
    throw std::invalid_argument(o.address +
                                " can be reached from other machines, and nobody is asked who they are: allow_remote "
                                "(--allow-remote) says that this is wanted");
  if (o.title.empty()) o.title = "caller";
  return o;
}

}  // namespace

struct Monitor::Impl {
  const MonitorOptions options;
  const std::string token;
  const Assets assets;
  const Guard guard;
  Caller loop;
  Feed feed;
  std::shared_ptr<Api> api;
  std::shared_ptr<Watch> watch;
  std::shared_ptr<HttpServer> server;
  std::uint16_t port = 0;

  Impl(std::shared_ptr<task::Store> store, MonitorOptions given)
      : options(checked(std::move(given))),
        token(options.allow_write ? new_token() : std::string()),
        assets(load_assets(options.assets)),
        guard(options.address, options.host_names, token),
        loop(caller::new_thread, CallerOptions{.name = "monitor"}),
        api(std::make_shared<Api>(std::move(store), options.title, options.allow_write, options.store_time)),
        watch(std::make_shared<Watch>(loop, api, feed, options.interval)) {
    const Limits limits{options.max_connections, options.max_header, options.max_body, options.request_time,
                        options.idle_time};
    HttpHooks hooks;
    hooks.handle = [this](Request request) { return handle(std::move(request)); };
    hooks.watching = [w = watch](std::size_t n) { w->watching(n); };
    const auto begin = [&] {
      server = HttpServer::make(loop, limits, std::move(hooks), feed);
      port = server->listen(options.address, options.port);
    };
    try {
      loop.call_soon(begin).wait();
    } catch (...) {
      end();
      throw;
    }
  }
  ~Impl() { end(); }

  void end() noexcept {
    if (server) (void)loop.call_soon([s = server] { s->close(); }).wait_done();
    loop.stop(true);
    (void)loop.stopped().wait_done();
  }

  /// Lives as long as the loop does; see end().
  Coro<Response> handle(Request request) {
    const auto target = parse_target(request.target);
    if (!target) co_return failure(400, "that is no address of a page");
    const bool page = target->path.size() <= 1 && (target->path.empty() || target->path.front() != "api");
    Asked asked{request.method,     request.host,     request.origin,
                request.fetch_site, request.token,    request.content_type,
                request.has_origin, request.one_host, page && request.fetch_mode == "navigate"};
    if (const auto refusal = guard.refuse(asked)) co_return failure(refusal->status, refusal->text);
    const bool reads = request.method == "GET" || request.method == "HEAD";
    if (!reads && request.method != "POST") {
      Response out = failure(405, "only GET, HEAD and POST are served");
      out.more.emplace_back("Allow", "GET, HEAD, POST");
      co_return out;
    }
    if (page) co_return asset(*target, reads);
    if (target->path.size() == 2 && target->path[0] == "api" && target->path[1] == "events" && reads) {
      Response out;
      out.content_type = "text/event-stream";
      out.events = true;
      co_return out;
    }
    if (target->path.front() != "api") co_return failure(404, "there is no such address");
    Coro<Response> work = Api::handle(api, request.method, *target, std::move(request.body));
    Response out = co_await std::move(work);
    if (!reads) watch->look_soon();
    co_return out;
  }

  Response asset(const Target& target, bool reads) const {
    const auto found = assets.find(target.path.empty() ? "index.html" : std::string_view(target.path.front()));
    if (found == assets.end()) return failure(404, "there is no such address");
    if (!reads) return failure(405, "only GET is served here");
    Response out;
    out.content_type = found->second.content_type;
    out.body = found->second.body;
    return out;
  }
};

Monitor::Monitor(std::shared_ptr<task::Store> store, MonitorOptions options)
    : impl_(std::make_shared<Impl>(std::move(store), std::move(options))) {}

Monitor::Monitor(const task::App& app, MonitorOptions options)
    : Monitor(std::shared_ptr<task::Store>(app.core(), &app.store()), [&] {
        if (options.title.empty()) options.title = app.app_id();
        return std::move(options);
      }()) {}

Monitor::Monitor(Monitor&&) noexcept = default;
Monitor& Monitor::operator=(Monitor&&) noexcept = default;
Monitor::~Monitor() = default;

const std::string& Monitor::address() const noexcept { return impl_->options.address; }
std::uint16_t Monitor::port() const noexcept { return impl_->port; }
const std::string& Monitor::token() const noexcept { return impl_->token; }
std::string Monitor::url() const {
  const std::string& a = impl_->options.address;
  std::string out = "http://" + (a.find(':') == a.npos ? a : "[" + a + "]") + ":" + std::to_string(impl_->port) + "/";
  if (!impl_->token.empty()) out += "#token=" + impl_->token;
  return out;
}
std::size_t Monitor::connections() const noexcept { return impl_->server->connections(); }
std::size_t Monitor::watchers() const noexcept { return impl_->server->watchers(); }

}  // namespace caller::monitor
