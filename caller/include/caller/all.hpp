// Everything of the runtime.
#pragma once

#include <caller/caller.hpp>
#include <caller/channel.hpp>
#include <caller/context.hpp>
#include <caller/coro.hpp>
#include <caller/error.hpp>
#include <caller/generator.hpp>
#include <caller/group.hpp>
#include <caller/options.hpp>
#include <caller/pending.hpp>
#include <caller/start_stop.hpp>
#include <caller/task_loop.hpp>
#include <caller/timeout.hpp>
#include <caller/tracker.hpp>
