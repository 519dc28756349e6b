// Answers from the engine in this process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "trace/trace_source.h"

namespace nemoforge::trace {

// The engine and what belongs to it; all outlive the source.
struct EngineParts {
  engine::Engine& engine;
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate& chat_template;
  std::shared_ptr<const model::LoraAdapter> adapter;  // null: the base model
};

// Keeps the engine's batch full. Ids and logprobs are those of the sampling itself; the reasoning is split
// off as the checkpoint's template will put it back.
class EngineSource : public TraceSource {
 public:
  EngineSource(EngineParts parts, SourceIdentity identity, SamplingSettings settings);

  [[nodiscard]] const SourceIdentity& identity() const override { return identity_; }
  [[nodiscard]] Status run(const SourceCallbacks& callbacks) override;

 private:
  EngineParts parts_;
  SourceIdentity identity_;
  SamplingSettings settings_;
};

}  // namespace nemoforge::trace
