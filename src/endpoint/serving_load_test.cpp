#include "endpoint/serving_load.h"

#include <gtest/gtest.h>

namespace nemoforge::endpoint {
namespace {

TEST(ServingLoad, percentiles_lie_between_ranks) {
  const Distribution found = describe({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(found.mean, 2.5);
  EXPECT_DOUBLE_EQ(found.median, 2.5);
  EXPECT_DOUBLE_EQ(found.std, 1.118033988749895);
  EXPECT_DOUBLE_EQ(found.p99, 3.97);
  EXPECT_DOUBLE_EQ(describe({}).p99, 0);
  EXPECT_DOUBLE_EQ(describe({7}).p99, 7);
}

TEST(ServingLoad, a_report_counts_what_was_answered) {
  std::vector<ServedRequest> requests(3);
  requests[0] = {1.0, {1.5, 2.0, 2.5}, 3.0, 10, 6, {}};
  requests[1] = {0.0, {0.25}, 0.5, 20, 1, {}};
  requests[2] = {0.0, {}, 4.0, 0, 0, "status 500"};
  const ServingReport report = summarize(requests);
  EXPECT_EQ(report.completed, 2);
  EXPECT_EQ(report.failed, 1);
  EXPECT_DOUBLE_EQ(report.duration_s, 4);
  EXPECT_EQ(report.total_input_tokens, 30);
  EXPECT_EQ(report.total_output_tokens, 7);
  EXPECT_DOUBLE_EQ(report.ttft_ms.mean, 375);
  EXPECT_DOUBLE_EQ(report.tpot_ms.mean, 300);  // 1.5 s for the five tokens after the first
  EXPECT_DOUBLE_EQ(report.itl_ms.mean, 500);
  EXPECT_DOUBLE_EQ(report.e2el_ms.mean, 1250);
  EXPECT_DOUBLE_EQ(report.max_output_tokens_per_s, 4);
  EXPECT_EQ(report.max_concurrent_requests, 1);
}

TEST(ServingLoad, an_endpoint_that_is_not_there_is_an_error) {
  ServingLoad load;
  load.url = "http://127.0.0.1:9";
  load.num_prompts = 2;
  const auto sent = send_load(load);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace nemoforge::endpoint
