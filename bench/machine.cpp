#include "bench/machine.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include <dnnl.hpp>

#include "base/thread_pool.h"
#include "bench/timing.h"
#include "tensor/buffer.h"

namespace nemoforge::bench {
namespace {

constexpr int kRepetitions = 5;
constexpr int64_t kBufferBytes = int64_t{1} << 30;

// Eight sums, so that the loop waits for memory and not for additions.
uint64_t sum_words(const uint64_t* words, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

double matmul_seconds(const MatrixProduct& product, DType dtype) {
  using Memory = dnnl::memory;
  const auto type = dtype == DType::kBF16 ? Memory::data_type::bf16 : Memory::data_type::f32;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const Memory::desc x({product.rows, product.in_features}, type, Memory::format_tag::ab);
  const Memory::desc w({product.in_features, product.out_features}, type, Memory::format_tag::ba);
  const Memory::desc y({product.rows, product.out_features}, type, Memory::format_tag::ab);
  const dnnl::matmul matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, w, y), engine));
  Memory x_memory(x, engine);
  Memory w_memory(w, engine);
  Memory y_memory(y, engine);
  std::fill_n(static_cast<char*>(x_memory.get_data_handle()), x.get_size(), '\0');
  std::fill_n(static_cast<char*>(w_memory.get_data_handle()), w.get_size(), '\0');
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    const Stopwatch watch;
    matmul.execute(stream,
                   {{DNNL_ARG_SRC, x_memory}, {DNNL_ARG_WEIGHTS, w_memory}, {DNNL_ARG_DST, y_memory}});
    stream.wait();
    best = std::min(best, watch.seconds());
  }
  return best;
}

}  // namespace

double read_gb_per_s() {
  const Buffer buffer = allocate_host(kBufferBytes);
  auto* words = static_cast<uint64_t*>(buffer.data());
  const int64_t num_words = kBufferBytes / 8;
  ThreadPool& pool = ThreadPool::global();
  const int64_t num_tasks = pool.num_threads() * 8L;
  std::atomic<uint64_t> sink{0};
  double best = std::numeric_limits<double>::infinity();
  pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
    std::fill(words + num_words * task_idx / num_tasks, words + num_words * (task_idx + 1) / num_tasks, 1);
  });
  for (int i = 0; i < kRepetitions; ++i) {
    const Stopwatch watch;
    pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
      const int64_t begin = num_words * task_idx / num_tasks;
      sink += sum_words(words + begin, num_words * (task_idx + 1) / num_tasks - begin);
    });
    best = std::min(best, watch.seconds());
  }
  return static_cast<double>(kBufferBytes) / best / 1e9;
}

double onednn_seconds(std::span<const MatrixProduct> products, DType dtype) {
  double seconds = 0;
  for (const MatrixProduct& product : products) {
    if (product.rows > 0) seconds += static_cast<double>(product.count) * matmul_seconds(product, dtype);
  }
  return seconds;
}

}  // namespace nemoforge::bench
