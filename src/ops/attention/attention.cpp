#include "ops/attention/attention.h"

#include "ops/op_checks.h"

namespace nemoforge::ops {
namespace {

void check(const KvCacheView& cache, int64_t kv_size) {
  NF_CHECK(is_activation(cache.k) && is_activation(cache.v) && cache.k.dtype() == cache.v.dtype() &&
           cache.k.shape() == cache.v.shape() && cache.k.is_contiguous() && cache.v.is_contiguous())
      << "k " << cache.k.shape().to_string() << ", v " << cache.v.shape().to_string();
  NF_CHECK(cache.k.shape().rank() == 3 && cache.block_size() > 0 && cache.k.size(2) == kv_size)
      << cache.k.shape().to_string() << " for keys of " << kv_size;
}

}  // namespace

void check(const KvCacheAppendArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.rows->block_tables) << "attention without block_tables";
  NF_CHECK(args.k.shape().rank() == 2) << args.k.shape().to_string();
  check_activation(args.k, args.rows->num_tokens, args.k.size(1), "k");
  check_activation(args.v, args.rows->num_tokens, args.k.size(1), "v");
  check(args.cache, args.k.size(1));
}

void check(const AttentionArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.rows->block_tables) << "attention without block_tables";
  NF_CHECK(args.num_kv_heads > 0 && args.num_heads > 0 && args.num_heads % args.num_kv_heads == 0 &&
           args.head_dim > 0)
      << args.num_heads << '/' << args.num_kv_heads << " heads of " << args.head_dim;
  check_activation(args.q, args.rows->num_tokens, args.num_heads * args.head_dim, "q");
  check_activation(args.out, args.rows->num_tokens, args.num_heads * args.head_dim, "out");
  check(args.cache, args.num_kv_heads * args.head_dim);
  check_disjoint(args.q, args.out, "q and out");
}

}  // namespace nemoforge::ops
