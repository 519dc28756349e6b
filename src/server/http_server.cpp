#include "server/http_server.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "server/http_session.h"

namespace nemoforge::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// How often deadlines are looked at; each is late by so much at most.
constexpr std::chrono::milliseconds kSweepInterval{1000};
// Before accepting again where the process is out of file descriptors.
constexpr std::chrono::milliseconds kAcceptRetry{100};
// How often stop() looks whether the sessions have ended.
constexpr std::chrono::milliseconds kFinishInterval{20};

}  // namespace

struct HttpServer::Impl {
  Impl(const HttpConfig& config, HttpHandler handler)
      : context(std::make_shared<SessionContext>()),
        acceptor(asio::make_strand(io)),
        accept_timer(acceptor.get_executor()),
        sweep_timer(acceptor.get_executor()) {
    context->config = config;
    context->handler = std::move(handler);
  }

  Status listen() {
    const HttpConfig& config = context->config;
    const auto fail = [&](const char* what, const error_code& failure) {
      return error(ErrorCode::kIo,
                   fmt::format("cannot {} {}:{}: {}", what, config.host, config.port, failure.message()));
    };
    error_code failure;
    tcp::resolver resolver(io);
    const auto found =
        resolver.resolve(config.host, std::to_string(config.port), tcp::resolver::passive, failure);
    if (failure || found.empty()) return fail("resolve", failure);
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol(), failure);
    if (failure) return fail("open", failure);
    acceptor.set_option(tcp::acceptor::reuse_address(true), failure);
    acceptor.bind(endpoint, failure);
    if (failure) return fail("listen on", failure);
    acceptor.listen(asio::socket_base::max_listen_connections, failure);
    if (failure) return fail("listen on", failure);
    port = acceptor.local_endpoint().port();
    return {};
  }

  void accept() {
    acceptor.async_accept(asio::make_strand(io), [this](error_code failure, tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (failure) {
        spdlog::warn("cannot accept a connection: {}", failure.message());
        accept_timer.expires_after(kAcceptRetry);
        accept_timer.async_wait([this](error_code cancelled) {
          if (!cancelled && acceptor.is_open()) accept();
        });
        return;
      }
      auto session = std::make_shared<HttpSession>(std::move(socket), context);
      if (add(session)) {
        session->start();
      } else {
        session->refuse();
      }
      accept();
    });
  }

  // False where there are too many.
  bool add(const std::shared_ptr<HttpSession>& session) {
    const std::lock_guard lock(mutex);
    std::erase_if(sessions, [](const auto& weak) { return weak.expired(); });
    const bool fits = sessions.size() < context->config.max_connections;
    sessions.push_back(session);
    return fits;
  }

  std::vector<std::shared_ptr<HttpSession>> live_sessions() {
    std::vector<std::shared_ptr<HttpSession>> live;
    const std::lock_guard lock(mutex);
    for (const auto& weak : sessions) {
      if (auto session = weak.lock()) live.push_back(std::move(session));
    }
    return live;
  }

  void sweep() {
    sweep_timer.expires_after(kSweepInterval);
    sweep_timer.async_wait([this](error_code cancelled) {
      if (cancelled || is_finishing) return;
      const auto now = std::chrono::steady_clock::now();
      for (const auto& session : live_sessions()) session->close_if_overdue(now);
      sweep();
    });
  }

  // In place of the sweep: the threads end by themselves once the sessions have.
  void finish(std::chrono::steady_clock::time_point deadline) {
    // A sweep may be on its way already: it must not take the timer back.
    is_finishing = true;
    const auto live = live_sessions();
    if (live.empty() || std::chrono::steady_clock::now() >= deadline) {
      for (const auto& session : live) session->close_now();
      sweep_timer.cancel();
      return;
    }
    sweep_timer.expires_after(kFinishInterval);
    sweep_timer.async_wait([this, deadline](error_code cancelled) {
      if (!cancelled) finish(deadline);
    });
  }

  void run_thread() {
    for (;;) {
      try {
        io.run();
        return;
      } catch (const std::exception& failure) {
        spdlog::error("an HTTP thread failed: {}", failure.what());
      }
    }
  }

  asio::io_context io;
  std::shared_ptr<SessionContext> context;
  tcp::acceptor acceptor;
  asio::steady_timer accept_timer;
  asio::steady_timer sweep_timer;
  bool is_finishing = false;  // of the acceptor's strand
  uint16_t port = 0;
  std::mutex mutex;
  std::vector<std::weak_ptr<HttpSession>> sessions;
  std::vector<std::thread> threads;
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpConfig& config, HttpHandler handler) {
  auto impl = std::make_unique<Impl>(config, std::move(handler));
  NF_RETURN_IF_ERROR(impl->listen());
  asio::post(impl->acceptor.get_executor(), [raw = impl.get()] {
    raw->accept();
    raw->sweep();
  });
  for (int i = 0; i < std::max(config.num_threads, 1); ++i) {
    impl->threads.emplace_back([raw = impl.get()] { raw->run_thread(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  stop(std::chrono::steady_clock::now());
}

uint16_t HttpServer::port() const {
  return impl_->port;
}

void HttpServer::begin_drain() {
  impl_->context->draining = true;
  for (const auto& session : impl_->live_sessions()) session->close_if_idle();
}

void HttpServer::stop(std::chrono::steady_clock::time_point deadline) {
  if (impl_->threads.empty()) return;
  begin_drain();
  asio::post(impl_->acceptor.get_executor(), [raw = impl_.get(), deadline] {
    error_code ignored;
    raw->acceptor.close(ignored);
    raw->accept_timer.cancel();
    raw->finish(deadline);
  });
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace nemoforge::server
