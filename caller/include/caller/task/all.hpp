// Everything of tasks.
#pragma once

#include <caller/task/app.hpp>
#include <caller/task/builder.hpp>
#include <caller/task/client_data.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/components.hpp>
#include <caller/task/config.hpp>
#include <caller/task/direct.hpp>
#include <caller/task/error.hpp>
#include <caller/task/family.hpp>
#include <caller/task/invocation.hpp>
#include <caller/task/logger.hpp>
#include <caller/task/options.hpp>
#include <caller/task/plugin.hpp>
#include <caller/task/redis.hpp>
#include <caller/task/run.hpp>
#include <caller/task/runner.hpp>
#include <caller/task/sqlite.hpp>
#include <caller/task/status.hpp>
#include <caller/task/store.hpp>
#include <caller/task/task.hpp>
#include <caller/task/trigger.hpp>
#include <caller/task/workflow.hpp>
