// The server's side of TLS.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace boost::asio::ssl {
class context;
}

namespace nemoforge::server {

using TlsContextPtr = std::shared_ptr<boost::asio::ssl::context>;

// TLS 1.2 and later with the certificate chain (the server's own certificate first) and its private key, both
// in PEM. Errors name the file: kNotFound, kInvalidData (not PEM, an encrypted key, a key of another
// certificate), kIo.
[[nodiscard]] Result<TlsContextPtr> load_tls_context(const std::string& certificate_file,
                                                     const std::string& key_file);

}  // namespace nemoforge::server
