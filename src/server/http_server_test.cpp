#include "server/http_server.h"

#include <future>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

namespace nemoforge::server {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

TEST(HttpServer, stops_at_a_deadline_that_has_passed_though_a_request_is_unanswered) {
  HttpConfig config;
  config.port = 0;
  std::promise<std::shared_ptr<Exchange>> arrived;
  auto server = HttpServer::start(config, [&](HttpRequest&&, std::shared_ptr<Exchange> exchange) {
    arrived.set_value(std::move(exchange));
  });
  ASSERT_TRUE(server) << server.error().message;
  asio::io_context io;
  tcp::socket client(io);
  client.connect({asio::ip::make_address("127.0.0.1"), (*server)->port()});
  asio::write(client, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: test\r\n\r\n")));
  const std::shared_ptr<Exchange> unanswered = arrived.get_future().get();

  (*server)->stop(std::chrono::steady_clock::now());

  char byte = 0;
  boost::system::error_code failure;
  client.read_some(asio::buffer(&byte, 1), failure);
  EXPECT_TRUE(failure);  // closed, and nothing was answered
}

}  // namespace
}  // namespace nemoforge::server
