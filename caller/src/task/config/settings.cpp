// Every setting of tasks: its name, the member it sets, and what it means.
#include "bind.hpp"

namespace caller::task::detail {

const Bound<AppOptions>& app_settings() {
  using O = AppOptions;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("app");
    b.member("app_id", [](O& o) -> auto& { return o.app_id; }, "name of the application; others do not see its tasks");
    b.member("store", [](O& o) -> auto& { return o.store_name; }, "where invocations live, by name").names_section();
    b.member("runner", [](O& o) -> auto& { return o.runner_name; }, "who executes them, by name").names_section();
    b.member("serializer", [](O& o) -> auto& { return o.format; }, "format of arguments and results");
    b.member(
         "dev_mode", [](O& o) -> auto& { return o.dev_mode; }, "calls run where they are made, at once")
        .also("dev_mode_force_sync_tasks", "");
    b.member("lease", [](O& o) -> auto& { return o.lease; }, "after which a silent runner is taken for dead");
    b.member(
         "max_pending", [](O& o) -> auto& { return o.max_pending; }, "from taken to begun, at most")
        .also("max_pending_seconds", "s");
    b.member(
         "auto_final_invocation_purge", [](O& o) -> auto& { return o.auto_final_invocation_purge; },
         "after which an invocation that ended is forgotten; 0: never")
        .also("auto_final_invocation_purge_hours", "h");
    b.member("logging_level", [](O& o) -> auto& { return o.logging_level; }, "what is logged: this, and what is worse");
    return b;
  }());
  return *all;
}

const Bound<ClientDataOptions>& client_data_settings() {
  using O = ClientDataOptions;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("client_data");
    b.member(
        "min_size", [](O& o) -> auto& { return o.min_size; },
        "bytes from which on an argument or result is kept apart; 0: none is");
    b.member(
        "warn_size", [](O& o) -> auto& { return o.warn_size; }, "bytes of which a larger one is logged; 0: none is");
    b.member("local_cache", [](O& o) -> auto& { return o.local_cache; }, "bytes of what was read that a process keeps");
    return b;
  }());
  return *all;
}

const Bound<TaskOptions>& task_settings() {
  using O = TaskOptions;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("task");
    b.member(
        "parallel_batch_size", [](O& o) -> auto& { return o.parallel_batch_size; },
        "calls that parallelize() registers at once");
    b.member("retry_for", [](O& o) -> auto& { return o.retry_for; }, "types of exceptions, besides RetryError");
    b.member("max_retries", [](O& o) -> auto& { return o.max_retries; }, "further tries");
    b.member("retry_backoff", [](O& o) -> auto& { return o.retry_backoff.first; }, "wait before the first of them");
    b.member(
        "retry_backoff_factor", [](O& o) -> auto& { return o.retry_backoff.factor; },
        "how much longer each next one waits");
    b.member("retry_backoff_most", [](O& o) -> auto& { return o.retry_backoff.most; }, "the longest wait");
    b.member(
        "running_concurrency", [](O& o) -> auto& { return o.running_concurrency; },
        "of which kind one at a time is at work");
    b.member(
        "registration_concurrency", [](O& o) -> auto& { return o.registration_concurrency; },
        "of which kind one at a time waits");
    b.member("key_arguments", [](O& o) -> auto& { return o.key_arguments; }, "the arguments that make the kind");
    b.member(
        "on_diff_non_key_args_raise", [](O& o) -> auto& { return o.on_diff_non_key_args_raise; },
        "a further call with the same keys and other arguments is an error");
    b.member(
        "reroute_on_concurrency_control", [](O& o) -> auto& { return o.reroute_on_concurrency_control; },
        "what must not run now waits, instead of being refused");
    b.member("timeout", [](O& o) -> auto& { return o.timeout; }, "the longest execution; 0: no limit");
    b.member("delay", [](O& o) -> auto& { return o.delay; }, "from the call until it may be taken");
    b.member("priority", [](O& o) -> auto& { return o.priority; }, "higher ones are taken first");
    b.member("queue", [](O& o) -> auto& { return o.queue; }, "where it waits");
    b.member(
        "call_result_cache", [](O& o) -> auto& { return o.call_result_cache; },
        "a call that was made before gives its invocation");
    b.member(
        "disable_cache_args", [](O& o) -> auto& { return o.disable_cache_args; },
        "arguments that stay with the invocation however large they are; *: all");
    b.member(
        "force_new_workflow", [](O& o) -> auto& { return o.force_new_workflow; },
        "each invocation begins a workflow of its own");
    return b;
  }());
  return *all;
}

const Bound<RunnerOptions>& runner_settings() {
  using O = RunnerOptions;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("runner");
    b.member(
         "slots", [](O& o) -> auto& { return o.slots; }, "invocations at work at once; 0: one for each core")
        .also("max_threads", "");
    b.member(
        "min_threads", [](O& o) -> auto& { return o.min_threads; },
        "thread: that many are kept while they have nothing to do; 0: ten");
    b.member(
        "queues", [](O& o) -> auto& { return o.queues; },
        "which it serves; none: all but those whose name begins with a dot");
    b.member("description", [](O& o) -> auto& { return o.description; }, "for people; empty: its kind and process");
    b.member("grace", [](O& o) -> auto& { return o.grace; }, "code that was told to end may go on for so long");
    b.member(
        "min_processes", [](O& o) -> auto& { return o.min_processes; },
        "multi_thread: kept while they have nothing to do");
    b.member("max_processes", [](O& o) -> auto& { return o.max_processes; }, "multi_thread; 0: one for each core");
    b.member(
        "threads", [](O& o) -> auto& { return o.threads; },
        "multi_thread: invocations at work at once in a process; 0: one for each core");
    b.member(
        "idle_timeout", [](O& o) -> auto& { return o.idle_timeout; },
        "processes that are too many end after so long without work");
    b.member(
        "start_timeout", [](O& o) -> auto& { return o.start_timeout; }, "of a process, until it can execute something");
    b.member(
        "worker", [](O& o) -> auto& { return o.worker; }, "program and arguments of the processes; none: this program");
    return b;
  }());
  return *all;
}

const Bound<SqliteSettings>& sqlite_settings() {
  using O = SqliteSettings;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("sqlite");
    b.member(
         "path", [](O& o) -> auto& { return o.path; }, "the file; it is made if it is missing")
        .also("sqlite_db_path", "");
    b.member("sync", [](O& o) -> auto& { return o.options.sync; }, "what a power failure may not take");
    b.member(
        "busy_timeout", [](O& o) -> auto& { return o.options.busy_timeout; },
        "how long a foreign program may keep the database locked");
    return b;
  }());
  return *all;
}

const Bound<RedisOptions>& redis_settings() {
  using O = RedisOptions;
  static const auto* all = new Bound<O>([] {
    Bound<O> b("redis");
    b.member(
         "url", [](O& o) -> auto& { return o.url; },
         "redis://[user:password@]host[:port][/database], rediss:// by TLS, or unix:///path")
        .also("redis_url", "");
    b.member("patience", [](O& o) -> auto& { return o.patience; }, "how long a server that is gone is waited for");
    b.member(
        "ca_file", [](O& o) -> auto& { return o.ca_file; }, "TLS: authorities that are believed; empty: the system's");
    b.member(
        "cert_file", [](O& o) -> auto& { return o.cert_file; }, "TLS: our own certificate, for servers that want one");
    b.member("key_file", [](O& o) -> auto& { return o.key_file; }, "TLS: its private key");
    b.member("verify", [](O& o) -> auto& { return o.verify; }, "TLS: what the server's certificate must be");
    return b;
  }());
  return *all;
}

}  // namespace caller::task::detail
