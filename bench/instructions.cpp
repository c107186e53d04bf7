#include <caller/all.hpp>
int main() {}
