#include "monitor.hpp"

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <caller/monitor/monitor.hpp>
#include <caller/task/sqlite.hpp>
#include <caller/task/store.hpp>

namespace caller::kernel::cli {

struct MonitorCommand::Options {
  CLI::App* command = nullptr;
  std::string url, sqlite, app_id = "caller";
  monitor::MonitorOptions server;
};

MonitorCommand::MonitorCommand(CLI::App& app) : options_(std::make_unique<Options>()) {
  Options& o = *options_;
  o.server.port = 8787;
  o.command = app.add_subcommand("monitor", "Serve a live web page over the tasks of an application");
  auto* store = o.command->add_option_group("store", "Where the invocations are");
  store->add_option("--url", o.url, "A Redis server: redis://[user:password@]host[:port][/database] or unix:///path")
      ->type_name("URL");
  store->add_option("--sqlite", o.sqlite, "A file of SQLite")->type_name("FILE")->check(CLI::ExistingFile);
  store->require_option(1);
  o.command->add_option("--app-id", o.app_id, "The application whose tasks are shown")->capture_default_str();
  o.command->add_option("--address", o.server.address, "Where to serve, in numbers")->capture_default_str();
  o.command->add_option("--port", o.server.port, "0: one that is free")->type_name("N")->capture_default_str();
  o.command->add_flag("--allow-write", o.server.allow_write, "Let the page cancel, run again and purge");
  o.command->add_flag("--allow-remote", o.server.allow_remote,
                      "Accept an --address that other machines can reach; everybody there may look");
  o.command->add_option("--host-name", o.server.host_names, "A name under which browsers ask for it; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
}

MonitorCommand::~MonitorCommand() = default;
bool MonitorCommand::given() const { return options_->command->parsed(); }

int MonitorCommand::run() {
  Options& o = *options_;
  // Before there are threads, so that none of them is interrupted by what ends the program.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  // A server that has gone is shown as such; waiting longer for it only makes the page slow to say so.
  auto store = o.url.empty() ? task::make_sqlite_store(o.sqlite)
                             : task::make_redis_store(o.url, o.app_id, std::chrono::seconds(2));
  o.server.title = o.app_id;
  const monitor::Monitor page(std::move(store), o.server);
  if (o.server.allow_remote)
    std::cerr << "caller monitor: warning: " << page.address()
              << " can be reached from other machines, whose users may look at everything, unencrypted\n";
  std::cout << page.url() << std::endl;
  if (o.server.allow_write)
    std::cerr << "caller monitor: who has this address, with its token, can cancel, run again and purge\n";
  std::cerr << "caller monitor: Ctrl-C ends it\n";
  int which = 0;
  ::sigwait(&ends, &which);
  return 0;
}

}  // namespace caller::kernel::cli
