// The whole server in one process, over real sockets: what the thread sanitizer looks at.
#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/temporary_folder.h"
#include "engine/engine_test_support.h"
#include "io/json.h"
#include "model/lora_adapter.h"
#include "server/api.h"
#include "server/http_server.h"
#include "server/tls.h"

namespace nemoforge::server {
namespace {

namespace asio = boost::asio;
using std::chrono::seconds;
using std::chrono::steady_clock;
using tcp = asio::ip::tcp;

// A certificate that signs itself, and its key, as PEM files.
TlsContextPtr make_tls() {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  NF_CHECK(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
  const TemporaryFolder folder = TemporaryFolder::create().value();
  const auto write = [](const std::string& path, const auto& print) {
    FILE* file = std::fopen(path.c_str(), "w");
    NF_CHECK(file != nullptr && print(file) == 1);
    std::fclose(file);
  };
  write(folder.path("cert.pem"), [&](FILE* file) { return PEM_write_X509(file, certificate.get()); });
  write(folder.path("key.pem"), [&](FILE* file) {
    return PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
  auto context = load_tls_context(folder.path("cert.pem"), folder.path("key.pem"));
  NF_CHECK(context) << context.error().message;
  return *context;
}

// The golden checkpoint behind a port of this machine.
struct RunningServer {
  explicit RunningServer(bool with_tls) {
    ApiConfig api_config;
    api_config.allow_lora_updates = true;
    api_config.access_log = false;
    api = std::make_unique<Api>(api_config, served, *engine);
    HttpConfig config;
    config.port = 0;
    if (with_tls) config.tls = make_tls();
    auto started =
        HttpServer::start(config, [this](HttpRequest&& request, const std::shared_ptr<Exchange>& exchange) {
          api->handle(std::move(request), exchange);
        });
    NF_CHECK(started) << started.error().message;
    http = std::move(*started);
    has_tls = with_tls;
  }

  // Sends an HTTP/1.0 request and returns the answer; of at least `enough` bytes, and then the client leaves.
  std::string ask(const std::string& method_and_path, const std::string& body, size_t enough = SIZE_MAX) {
    const std::string request =
        method_and_path + " HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    asio::io_context io;
    tcp::socket socket(io);
    socket.connect({asio::ip::address_v4::loopback(), http->port()});
    if (!has_tls) return talk(socket, request, enough);
    asio::ssl::context trusting(asio::ssl::context::tls_client);
    asio::ssl::stream<tcp::socket&> stream(socket, trusting);
    stream.handshake(asio::ssl::stream_base::client);
    return talk(stream, request, enough);
  }

  template <typename Stream>
  std::string talk(Stream& stream, const std::string& request, size_t enough) {
    asio::write(stream, asio::buffer(request));
    std::string answer;
    boost::system::error_code failure;
    asio::read(stream, asio::dynamic_buffer(answer), asio::transfer_at_least(1), failure);
    ++num_answers_begun;
    if (!failure && answer.size() < enough) {
      asio::read(stream, asio::dynamic_buffer(answer), asio::transfer_at_least(enough - answer.size()),
                 failure);
    }
    EXPECT_TRUE(!failure || failure == asio::error::eof) << failure.message();
    return answer;
  }

  engine::TinyModel tiny;
  std::unique_ptr<engine::Engine> engine = tiny.engine(engine::tiny_config());
  ModelRegistry registry{
      {"tiny", engine::TinyModel::folder(), "hash", "", engine->limits().max_model_len},
      [this](const std::string& path) -> Result<LoadedAdapter> {
        NF_TRY(model::LoraAdapter adapter,
               model::LoraAdapter::load(path, tiny.model().config(), tiny.backend()));
        return LoadedAdapter{std::make_shared<const model::LoraAdapter>(std::move(adapter)), "adapter hash"};
      }};
  ServedModel served{&tiny.tokenizer(), nullptr, &registry, engine->limits().max_model_len};
  std::unique_ptr<Api> api;
  std::unique_ptr<HttpServer> http;
  bool has_tls = false;
  std::atomic<int> num_answers_begun = 0;
};

std::string completion(int seed, int max_tokens, const std::string& model = "tiny") {
  std::string prompt;
  for (const int32_t id : engine::random_prompt(5 + seed % 3 * 20, static_cast<uint64_t>(seed)))
    prompt += (prompt.empty() ? "" : ",") + std::to_string(id);
  return R"({"model":")" + model + R"(","prompt":[)" + prompt + R"(],"seed":)" + std::to_string(seed) +
         R"(,"max_tokens":)" + std::to_string(max_tokens) + R"(,"ignore_eos":true,"stream":true})";
}

struct StreamedText {
  std::string text;
  bool is_done = false;
};

// What the events of a stream come to.
StreamedText text_of(const std::string& answer) {
  StreamedText out;
  for (size_t at = answer.find("data: "); at != std::string::npos; at = answer.find("data: ", at + 1)) {
    const std::string event = answer.substr(at + 6, answer.find('\n', at) - at - 6);
    if (event == "[DONE]") {
      out.is_done = true;
    } else if (const auto json = io::parse_json(event); json && !json->at("choices").empty()) {
      out.text += json->at("choices")[0].at("text").get<std::string>();
    }
  }
  return out;
}

class Server : public ::testing::TestWithParam<bool> {};

TEST_P(Server, many_clients_get_their_solo_answers_while_others_leave_and_adapters_change) {
  RunningServer server(GetParam());
  constexpr int kNumRequests = 4;
  constexpr int kNumClients = 6;
  std::array<std::string, kNumRequests> alone;
  for (int i = 0; i < kNumRequests; ++i) {
    const auto streamed = text_of(server.ask("POST /v1/completions", completion(i, 16 + i)));
    ASSERT_TRUE(streamed.is_done && !streamed.text.empty());
    alone[static_cast<size_t>(i)] = streamed.text;
  }
  std::vector<std::thread> clients;
  std::atomic<int> num_running = kNumClients;
  for (int client = 0; client < kNumClients; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < 6; ++i) {
        const int request = (client + i) % kNumRequests;
        const bool leaves = (client + i) % 3 == 0;
        const auto streamed =
            text_of(server.ask("POST /v1/completions", completion(request, leaves ? 200 : 16 + request),
                               leaves ? 300 : SIZE_MAX));
        if (!leaves) {
          EXPECT_TRUE(streamed.is_done);
          EXPECT_EQ(streamed.text, alone[static_cast<size_t>(request)]);
        }
      }
      --num_running;
    });
  }
  const std::string folder = engine::TinyModel::folder() + "/adapter";
  while (num_running > 0) {
    const std::string load = R"({"lora_name":"tuned","lora_path":")" + folder + R"("})";
    EXPECT_NE(server.ask("POST /v1/load_lora_adapter", load).find(" 200 OK"), std::string::npos);
    std::thread tuned([&] {
      EXPECT_TRUE(text_of(server.ask("POST /v1/completions", completion(1, 12, "tuned"))).is_done);
    });
    EXPECT_NE(server.ask("GET /v1/models", "").find("tuned"), std::string::npos);
    EXPECT_NE(server.ask("GET /metrics", "").find("vllm:num_requests_running"), std::string::npos);
    tuned.join();
    EXPECT_NE(server.ask("POST /v1/unload_lora_adapter", R"({"lora_name":"tuned"})").find(" 200 OK"),
              std::string::npos);
  }
  for (std::thread& client : clients) client.join();
}

TEST_P(Server, a_drain_lets_streams_end_and_the_deadline_ends_them) {
  for (const bool in_time : {true, false}) {
    RunningServer server(GetParam());
    std::atomic<int> num_whole = 0;
    std::vector<std::thread> clients;
    for (int client = 0; client < 4; ++client) {
      clients.emplace_back([&, client] {
        const auto streamed = text_of(server.ask("POST /v1/completions", completion(client, 150)));
        if (streamed.is_done) ++num_whole;
      });
    }
    while (server.num_answers_begun < 4) std::this_thread::yield();
    server.http->begin_drain();
    const bool drained = server.api->drain(steady_clock::now() + seconds(in_time ? 60 : 0));
    server.engine->stop();
    server.http->stop(steady_clock::now() + seconds(10));
    for (std::thread& client : clients) client.join();
    EXPECT_TRUE(drained || !in_time);
    EXPECT_EQ(num_whole, 4);
    EXPECT_EQ(server.engine->stats().num_running, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Streams, Server, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "tls" : "plain"; });

}  // namespace
}  // namespace nemoforge::server
