// What a process of nodes compiles its registering cell with, compiled in advance on top of the prelude of cells.
#pragma once

#include <caller/kernel/prelude.hpp>
#include <caller/kernel/tube_codecs.hpp>
#include <caller/kernel/tubes.hpp>
