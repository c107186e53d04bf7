// Exported symbols of the libraries.
#pragma once

#define CALLER_API __attribute__((visibility("default")))
