#include "server/metrics.h"

#include <limits>
#include <utility>
#include <vector>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace nemoforge::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

class Families {
 public:
  explicit Families(const std::string& model_name) : model_label_{"model_name", model_name} {}

  void gauge(const char* name, const char* help, double value) {
    ClientMetric metric = labelled();
    metric.gauge.value = value;
    add(name, help, MetricType::Gauge).push_back(std::move(metric));
  }

  void counter(const char* name, const char* help, double value) {
    ClientMetric metric = labelled();
    metric.counter.value = value;
    add(name, help, MetricType::Counter).push_back(std::move(metric));
  }

  void histogram(const char* name, const char* help, const engine::Histogram& histogram) {
    ClientMetric metric = labelled();
    uint64_t cumulative = 0;
    for (size_t i = 0; i < histogram.counts().size(); ++i) {
      cumulative += static_cast<uint64_t>(histogram.counts()[i]);
      const bool is_last = i == histogram.upper_bounds().size();
      metric.histogram.bucket.push_back(
          {cumulative, is_last ? std::numeric_limits<double>::infinity() : histogram.upper_bounds()[i]});
    }
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = histogram.sum();
    add(name, help, MetricType::Histogram).push_back(std::move(metric));
  }

  // A counter with a value for each of several labels.
  void finished(const engine::EngineStats& stats) {
    auto& metrics = add("vllm:request_success_total", "Completions, by finish reason.", MetricType::Counter);
    const std::pair<const char*, int64_t> counts[] = {{"stop", stats.finished_stop},
                                                      {"length", stats.finished_length},
                                                      {"abort", stats.finished_abort},
                                                      {"error", stats.finished_error}};
    for (const auto& [reason, count] : counts) {
      ClientMetric metric = labelled();
      metric.label.push_back({"finished_reason", reason});
      metric.counter.value = static_cast<double>(count);
      metrics.push_back(std::move(metric));
    }
  }

  void http(const HttpMetrics& http) {
    auto& metrics =
        add("nemoforge:http_requests_total", "Answers, by route and status.", MetricType::Counter);
    for (const auto& [key, count] : http.counts()) {
      ClientMetric metric;
      metric.label = {{"path", key.first}, {"status", std::to_string(key.second)}};
      metric.counter.value = static_cast<double>(count);
      metrics.push_back(std::move(metric));
    }
  }

  [[nodiscard]] std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  [[nodiscard]] ClientMetric labelled() const {
    ClientMetric metric;
    metric.label.push_back(model_label_);
    return metric;
  }

  std::vector<ClientMetric>& add(const char* name, const char* help, MetricType type) {
    families_.push_back({name, help, type, {}});
    return families_.back().metric;
  }

  ClientMetric::Label model_label_;
  std::vector<MetricFamily> families_;
};

double in_use(int64_t total, int64_t free) {
  return total == 0 ? 0 : static_cast<double>(total - free) / static_cast<double>(total);
}

}  // namespace

void HttpMetrics::count(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++counts_[{path, status}];
}

std::map<std::pair<std::string, int>, int64_t> HttpMetrics::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::string metrics_text(const engine::EngineStats& stats, const HttpMetrics& http,
                         const std::string& model_name) {
  Families out(model_name);
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  out.gauge("vllm:num_requests_running", "Sequences in the running batch.", number(stats.num_running));
  out.gauge("vllm:num_requests_waiting", "Sequences that wait.", number(stats.num_waiting));
  out.gauge("vllm:kv_cache_usage_perc", "KV blocks in use; 1 is all.",
            in_use(stats.num_blocks, stats.num_free_blocks));
  out.counter("vllm:num_preemptions_total", "Sequences put back into the queue.",
              number(stats.num_preemptions));
  out.counter("vllm:prompt_tokens_total", "Tokens of completed prompts.", number(stats.prompt_tokens));
  out.counter("vllm:generation_tokens_total", "Tokens generated.", number(stats.generation_tokens));
  out.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked for in the prefix cache.",
              number(stats.prefix_cache_queries));
  out.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
              number(stats.prefix_cache_hits));
  out.finished(stats);
  out.histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.",
                stats.time_to_first_token_s);
  out.histogram("vllm:inter_token_latency_seconds", "Between tokens of a completion.",
                stats.inter_token_latency_s);
  out.histogram("vllm:e2e_request_latency_seconds", "From arrival to the end of a completion.",
                stats.request_latency_s);
  out.histogram("vllm:request_queue_time_seconds", "From arrival to the first step that works on it.",
                stats.queue_time_s);
  out.gauge("nemoforge:state_slots_usage_perc", "Mamba state slots in use; 1 is all.",
            in_use(stats.num_state_slots, stats.num_free_state_slots));
  out.gauge("nemoforge:prefix_cache_blocks", "Idle KV blocks that the prefix cache keeps.",
            number(stats.num_cached_blocks));
  out.gauge("nemoforge:prefix_cache_snapshots", "Mamba states that the prefix cache keeps.",
            number(stats.num_cached_snapshots));
  out.counter("nemoforge:steps_total", "Engine steps.", number(stats.num_steps));
  out.counter("nemoforge:step_seconds_total", "Time in steps.", stats.step_s);
  out.counter("nemoforge:forward_seconds_total", "Time of steps in the model.", stats.forward_s);
  out.counter("nemoforge:prefilled_tokens_total", "Prompt tokens that passed through the model.",
              number(stats.prefilled_tokens));
  out.http(http);
  return out.text();
}

}  // namespace nemoforge::server
