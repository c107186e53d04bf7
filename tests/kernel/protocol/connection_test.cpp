#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "protocol/connection.hpp"
#include "support/temporary_folder.hpp"

using namespace caller::kernel;

namespace {
const std::string kGood = R"({"transport":"tcp","ip":"127.0.0.1","shell_port":1,"control_port":2,"stdin_port":3,
  "iopub_port":4,"hb_port":5,"signature_scheme":"hmac-sha256","key":"k","unknown":{"x":1}})";

std::string message_of(const std::string& text) {
  try {
    parse_connection(text, "conn.json");
  } catch (const KernelError& e) {
    CHECK(e.code() == KernelErrc::connection_file);
    return e.what();
  }
  return "no error";
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = kGood;
  text.replace(text.find(from), from.size(), to);
  return text;
}
}  // namespace

TEST_CASE("a connection file names five tcp endpoints and a key, unknown fields aside") {
  const ConnectionInfo info = parse_connection(kGood, "conn.json");
  CHECK(info.endpoint(info.shell_port) == "tcp://127.0.0.1:1");
  CHECK(info.hb_port == 5);
  CHECK(info.key == "k");
}

TEST_CASE("ipc endpoints append the port to the path") {
  const ConnectionInfo info =
      parse_connection(replaced(R"("tcp","ip":"127.0.0.1")", R"("ipc","ip":"/run/k-ipc")"), "c");
  CHECK(info.endpoint(2) == "ipc:///run/k-ipc-2");
}

TEST_CASE("null and missing optional fields of a connection file take their defaults") {
  const ConnectionInfo info =
      parse_connection(replaced(R"("transport":"tcp","ip":"127.0.0.1",)", R"("transport":null,)"), "c");
  CHECK(info.endpoint(7) == "tcp://127.0.0.1:7");
  CHECK(info.endpoint(0) == "tcp://127.0.0.1:*");
}

TEST_CASE("a bad connection file is refused by a message that names the file and the field") {
  CHECK(message_of("{") == "connection file conn.json: is not valid JSON");
  for (const int levels : {1000, 200000}) {
    const std::string deep =
        std::string(static_cast<std::size_t>(levels), '[') + std::string(static_cast<std::size_t>(levels), ']');
    CHECK(message_of(replaced("\"127.0.0.1\"", deep)) == "connection file conn.json: is nested deeper than 500 levels");
  }
  CHECK(message_of("[]") == "connection file conn.json: must hold an object");
  CHECK(message_of(replaced(R"("shell_port":1,)", "")) == "connection file conn.json: field \"shell_port\" is missing");
  CHECK(message_of(replaced(R"("hb_port":5)", R"("hb_port":70000)")) ==
        "connection file conn.json: field \"hb_port\" is out of range: 70000");
  CHECK(message_of(replaced(R"("hb_port":5)", R"("hb_port":"5")")).find("field \"hb_port\" must be a port") !=
        std::string::npos);
  CHECK(message_of(replaced("hmac-sha256", "hmac-md5")).find("\"signature_scheme\" must be hmac-sha256") !=
        std::string::npos);
  CHECK(message_of(replaced(R"("tcp")", R"("udp")")).find("\"transport\" must be tcp or ipc") != std::string::npos);
}

TEST_CASE("CURVE keys come as a pair of Z85 texts, and no message repeats the secret one") {
  const std::string secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
  const std::string half = message_of(replaced(R"("unknown")", R"("curve_secretkey":")" + secret + R"(","unknown")"));
  CHECK(half.find("curve_secretkey") != std::string::npos);
  CHECK(half.find(secret) == std::string::npos);
  for (const char* wrong : {"\"short\"", "7", "[1]"}) {
    const std::string text =
        std::string("\"curve_publickey\":") + wrong + ",\"curve_secretkey\":" + wrong + ",\"unknown\"";
    CHECK(message_of(replaced(R"("unknown")", text)).find("curve_") != std::string::npos);
  }
  const std::string both = R"("curve_publickey":"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID","curve_secretkey":")";
  const ConnectionInfo info = parse_connection(replaced(R"("unknown")", both + secret + R"(","unknown")"), "c");
  CHECK(info.curve_secret == secret);
  const caller::test::TemporaryFolder dir;
  write_connection_file(info, dir.file("c.json"));
  CHECK(read_connection_file(dir.file("c.json")).curve_public == info.curve_public);
}

TEST_CASE("a missing connection file, or a folder in its place, is an error that names it") {
  const caller::test::TemporaryFolder dir;
  for (const std::string& path : {dir.file("missing.json"), dir.path.string()}) {
    try {
      read_connection_file(path);
      FAIL("no error");
    } catch (const KernelError& e) {
      CHECK(std::string(e.what()).find(path + ": cannot be read") != std::string::npos);
    }
  }
}

TEST_CASE("a written connection file reads back and is private to its owner") {
  const caller::test::TemporaryFolder dir;
  ConnectionInfo info = parse_connection(kGood, "c");
  info.shell_port = 4242;
  write_connection_file(info, dir.file("c.json"));
  CHECK(read_connection_file(dir.file("c.json")).shell_port == 4242);
  namespace fs = std::filesystem;
  CHECK((fs::status(dir.file("c.json")).permissions() & (fs::perms::group_all | fs::perms::others_all)) ==
        fs::perms::none);
}
