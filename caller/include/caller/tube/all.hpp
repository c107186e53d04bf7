// All of caller::tube.
#pragma once

#include <caller/tube/cluster.hpp>
#include <caller/tube/codec.hpp>
#include <caller/tube/epoch.hpp>
#include <caller/tube/error.hpp>
#include <caller/tube/event.hpp>
#include <caller/tube/json.hpp>
#include <caller/tube/node.hpp>
#include <caller/tube/registry.hpp>
#include <caller/tube/runner.hpp>
#include <caller/tube/spec.hpp>
#include <caller/tube/tube.hpp>
#include <caller/tube/value.hpp>
