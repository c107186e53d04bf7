// caller-tube-node: a process of nodes, for tubes whose types are built in or come from plugins.
#include <cstdio>

#include <caller/tube/cluster.hpp>

int main(int argc, char** argv) {
  caller::tube::cluster_main(argc, argv);
  std::fputs("caller-tube-node is started by caller::tube::ClusterRunner; it does nothing by itself\n", stderr);
  return 2;
}
