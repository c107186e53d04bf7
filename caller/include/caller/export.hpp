// Exported symbols of the libraries, and the standard that all headers need: each includes this one early.
#pragma once

#if __cplusplus < 202002L
#error "Caller is C++20: compile with -std=c++20 (CMake: target_compile_features(TARGET PRIVATE cxx_std_20))."
// What follows would be a thousand errors that say less; a file that is not there ends the compilation here.
#include <compile_with_std_cxx20>
#endif

#define CALLER_API __attribute__((visibility("default")))
