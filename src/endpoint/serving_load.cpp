#include "endpoint/serving_load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/rng.h"
#include "endpoint/http_client.h"
#include "io/json.h"

namespace nemoforge::endpoint {
namespace {

using Clock = std::chrono::steady_clock;

// How long a wait for the network may last before arrivals and signals are looked at again.
constexpr double kPoll_s = 0.05;
constexpr size_t kMaxEventBytes = size_t{16} << 20;

// Words that are a token or two in every tokenizer; the draws differ, so that no prefix cache helps.
std::string random_prompt(Rng& rng, int64_t num_words) {
  static constexpr const char* kWords[] = {"time",  "house", "water", "light", "paper", "river",
                                           "stone", "green", "north", "music", "table", "cloud",
                                           "field", "glass", "horse", "metal"};
  std::string text;
  for (int64_t i = 0; i < num_words; ++i) {
    if (i > 0) text += ' ';
    text += kWords[rng.below(std::size(kWords))];
  }
  return text;
}

std::string request_body(const ServingLoad& load, Rng& rng) {
  io::Json body = {{"model", load.model},
                   {"max_tokens", load.output_tokens},
                   {"temperature", 0},
                   {"stream", true},
                   {"stream_options", {{"include_usage", true}}}};
  const std::string prompt = random_prompt(rng, load.input_words);
  if (load.chat)
    body["messages"] = io::Json::array({{{"role", "user"}, {"content", prompt}}});
  else
    body["prompt"] = prompt;
  if (load.ignore_eos) body["ignore_eos"] = true;
  return io::dump_json(body);
}

// Whether a member is a string with something in it.
bool filled(const io::Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() && !found->get_ref<const std::string&>().empty();
}

bool has_text(const io::Json& choice) {
  if (!choice.is_object()) return false;
  if (filled(choice, "text")) return true;
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return false;
  const auto calls = delta->find("tool_calls");
  return filled(*delta, "content") || filled(*delta, "reasoning") || filled(*delta, "reasoning_content") ||
         (calls != delta->end() && calls->is_array() && !calls->empty());
}

// Takes the bytes of one answer as they come.
class StreamReader {
 public:
  explicit StreamReader(ServedRequest& request) : request_(request) {}

  void push(std::string_view piece, double now_s) {
    rest_.append(piece);
    size_t begin = 0;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
      std::string_view line = std::string_view(rest_).substr(begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      take(line, now_s);
      begin = end + 1;
    }
    rest_.erase(0, begin);
    if (rest_.size() > kMaxEventBytes) {
      request_.error = "an event of more than 16 MiB";
      rest_.clear();
    }
  }

  void finish(const HttpResponse& response) {
    if (!response.error.empty()) {
      request_.error = response.error;
    } else if (response.status != 200) {
      request_.error = fmt::format("status {}: {}", response.status, rest_.substr(0, 200));
    } else if (request_.error.empty() && !is_done_) {
      request_.error = "the stream ended without [DONE]";
    } else if (request_.error.empty() && request_.chunks_s.empty()) {
      // A whole answer may hold no text: its only token may be half a character, or a special one.
      if (end_of_choice_s_)
        request_.chunks_s.push_back(*end_of_choice_s_);
      else
        request_.error = "the answer is empty";
    }
    if (request_.output_tokens == 0) request_.output_tokens = static_cast<int64_t>(request_.chunks_s.size());
  }

 private:
  void take(std::string_view line, double now_s) {
    if (!line.starts_with("data:")) return;
    line.remove_prefix(std::min(line.find_first_not_of(' ', 5), line.size()));
    if (line == "[DONE]") {
      is_done_ = true;
      return;
    }
    const auto event = io::parse_json(line);
    if (!event || !event->is_object()) {
      request_.error = "an event that is no JSON object";
      return;
    }
    if (const auto failure = event->find("error"); failure != event->end() && !failure->is_null())
      request_.error = io::dump_json(*failure).substr(0, 200);
    const auto choices = event->find("choices");
    if (choices != event->end() && choices->is_array() && !choices->empty()) {
      if (has_text((*choices)[0])) request_.chunks_s.push_back(now_s);
      if (filled((*choices)[0], "finish_reason")) end_of_choice_s_ = now_s;
    }
    read_usage(*event);
  }

  void read_usage(const io::Json& event) {
    const auto usage = event.find("usage");
    if (usage == event.end() || !usage->is_object()) return;
    const auto count = [&](const char* name, int64_t& value) {
      const auto found = usage->find(name);
      if (found != usage->end() && found->is_number_integer()) value = found->get<int64_t>();
    };
    count("prompt_tokens", request_.input_tokens);
    count("completion_tokens", request_.output_tokens);
  }

  ServedRequest& request_;
  std::string rest_;
  std::optional<double> end_of_choice_s_;
  bool is_done_ = false;
};

// When each request may begin, in seconds.
std::vector<double> arrivals(const ServingLoad& load, Rng& rng) {
  std::vector<double> times(static_cast<size_t>(load.num_prompts), 0.0);
  if (std::isinf(load.request_rate)) return times;
  for (size_t i = 1; i < times.size(); ++i)
    times[i] = times[i - 1] - std::log1p(-rng.uniform()) / load.request_rate;
  return times;
}

}  // namespace

std::vector<std::string> request_bodies(const ServingLoad& load) {
  Rng rng(load.seed, 0);
  std::vector<std::string> bodies;
  for (int64_t i = 0; i < load.num_prompts; ++i) bodies.push_back(request_body(load, rng));
  return bodies;
}

Result<std::vector<ServedRequest>> send_load(const ServingLoad& load) {
  Rng prompt_rng(load.seed, 0);
  Rng arrival_rng(load.seed, 1);
  const std::vector<double> times = arrivals(load, arrival_rng);
  const std::string url = load.url + (load.chat ? "/v1/chat/completions" : "/v1/completions");
  // Never resized: readers point into it.
  std::vector<ServedRequest> requests(times.size());
  std::map<uint64_t, StreamReader> readers;
  HttpClient client;
  const auto begin = Clock::now();
  const auto now_s = [begin] { return std::chrono::duration<double>(Clock::now() - begin).count(); };

  for (size_t next = 0, num_ended = 0; num_ended < requests.size();) {
    if (interrupted()) return error(ErrorCode::kCancelled, "interrupted");
    while (next < requests.size() && static_cast<int64_t>(readers.size()) < load.max_concurrency &&
           times[next] <= now_s()) {
      StreamReader& reader = readers.try_emplace(next, requests[next]).first->second;
      HttpRequest request{url, request_body(load, prompt_rng), load.api_key, load.timeout_s};
      request.on_body = [&reader, now_s](std::string_view piece) { reader.push(piece, now_s()); };
      requests[next].begin_s = now_s();
      client.start(next++, request);
    }
    double wait_s = kPoll_s;
    if (next < requests.size()) wait_s = std::clamp(times[next] - now_s(), 0.001, kPoll_s);
    for (const HttpResponse& response : client.wait(wait_s)) {
      requests[response.request_id].end_s = now_s();
      readers.at(response.request_id).finish(response);
      readers.erase(response.request_id);
      ++num_ended;
    }
  }
  if (std::all_of(requests.begin(), requests.end(), [](const auto& r) { return !r.error.empty(); }))
    return error(ErrorCode::kUnavailable, url + ": no request was answered: " + requests[0].error);
  return requests;
}

Distribution describe(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto percentile = [&](double percent) {
    const double rank = percent / 100 * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (rank - static_cast<double>(below));
  };
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double variance = 0;
  for (const double value : values) variance += (value - mean) * (value - mean) / count;
  return {mean, percentile(50), std::sqrt(variance), percentile(99)};
}

ServingReport summarize(const std::vector<ServedRequest>& requests) {
  ServingReport report;
  std::vector<double> ttft_ms;
  std::vector<double> tpot_ms;
  std::vector<double> itl_ms;
  std::vector<double> e2el_ms;
  std::map<int64_t, double> tokens_in_second;
  std::map<int64_t, int64_t> requests_in_second;
  for (const ServedRequest& request : requests) {
    report.duration_s = std::max(report.duration_s, request.end_s);
    if (!request.error.empty()) {
      ++report.failed;
      continue;
    }
    ++report.completed;
    report.total_input_tokens += request.input_tokens;
    report.total_output_tokens += request.output_tokens;
    const double latency_s = request.end_s - request.begin_s;
    const double first_s = request.chunks_s.front() - request.begin_s;
    ttft_ms.push_back(1e3 * first_s);
    e2el_ms.push_back(1e3 * latency_s);
    if (request.output_tokens > 1)
      tpot_ms.push_back(1e3 * (latency_s - first_s) / static_cast<double>(request.output_tokens - 1));
    for (size_t i = 1; i < request.chunks_s.size(); ++i)
      itl_ms.push_back(1e3 * (request.chunks_s[i] - request.chunks_s[i - 1]));
    // A chunk may hold several tokens; they are taken to be spread evenly.
    const double tokens_a_chunk =
        static_cast<double>(request.output_tokens) / static_cast<double>(request.chunks_s.size());
    for (const double chunk_s : request.chunks_s)
      tokens_in_second[static_cast<int64_t>(chunk_s)] += tokens_a_chunk;
    for (auto second = static_cast<int64_t>(request.begin_s); second <= static_cast<int64_t>(request.end_s);
         ++second)
      ++requests_in_second[second];
  }
  for (const auto& [second, tokens] : tokens_in_second)
    report.max_output_tokens_per_s = std::max(report.max_output_tokens_per_s, tokens);
  for (const auto& [second, count] : requests_in_second)
    report.max_concurrent_requests = std::max(report.max_concurrent_requests, count);
  report.ttft_ms = describe(std::move(ttft_ms));
  report.tpot_ms = describe(std::move(tpot_ms));
  report.itl_ms = describe(std::move(itl_ms));
  report.e2el_ms = describe(std::move(e2el_ms));
  return report;
}

}  // namespace nemoforge::endpoint
