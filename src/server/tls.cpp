#include "server/tls.h"

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>
#include <fmt/format.h>
#include <openssl/ssl.h>

#include "io/file.h"

namespace nemoforge::server {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

// Of a PEM file: a long chain has some tens of KiB.
constexpr int64_t kMaxPemBytes = 1 << 20;

}  // namespace

Result<TlsContextPtr> load_tls_context(const std::string& certificate_file, const std::string& key_file) {
  NF_TRY(const std::string certificates, io::read_file(certificate_file, kMaxPemBytes));
  NF_TRY(const std::string key, io::read_file(key_file, kMaxPemBytes));
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  // A client that renegotiates makes the server work for nothing.
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_RENEGOTIATION);
  error_code failure;
  context->use_certificate_chain(boost::asio::buffer(certificates), failure);
  if (failure) {
    return error(ErrorCode::kInvalidData,
                 fmt::format("{} holds no certificate: {}", certificate_file, failure.message()),
                 "expected PEM, the server's own certificate first");
  }
  // Without this OpenSSL would ask the terminal for a passphrase.
  if (key.find("ENCRYPTED") != std::string::npos) {
    return error(ErrorCode::kInvalidData,
                 key_file + " is encrypted, and there is nobody to ask for its passphrase",
                 "decrypt it with: openssl pkey -in FILE -out FILE");
  }
  context->use_private_key(boost::asio::buffer(key), ssl::context::pem, failure);
  const bool is_mismatch =
      failure ? ERR_GET_REASON(static_cast<unsigned long>(failure.value())) == X509_R_KEY_VALUES_MISMATCH
              : SSL_CTX_check_private_key(context->native_handle()) != 1;
  if (is_mismatch) {
    return error(ErrorCode::kInvalidData, fmt::format("the key in {} is not that of the certificate in {}",
                                                      key_file, certificate_file));
  }
  if (failure) {
    return error(ErrorCode::kInvalidData,
                 fmt::format("{} holds no private key: {}", key_file, failure.message()), "expected PEM");
  }
  return context;
}

}  // namespace nemoforge::server
