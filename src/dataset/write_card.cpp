#include <set>

#include <spdlog/fmt/fmt.h>

#include "dataset/write.h"
#include "io/file.h"

namespace nemoforge::dataset {
namespace {

std::string front_matter(const DatasetConfig& config, const WrittenData& data) {
  std::string text = "---\n";
  if (!config.licence.empty()) text += "license: " + config.licence + "\n";
  text +=
      "task_categories:\n- text-generation\ntags:\n- triton\n- kernels\n- reasoning\n"
      "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: " +
      data.train.name + "\n";
  if (data.validation.num_rows > 0) text += "  - split: validation\n    path: " + data.validation.name + "\n";
  return text + "---\n\n";
}

std::string counts(const Collection& collection) {
  std::string text = fmt::format("| traces | |\n|---|---|\n| in the runs | {} |\n", collection.num_traces);
  for (const auto& [reason, count] : collection.num_dropped) {
    text += fmt::format("| left out: {} | {} |\n", drop_reason_text(reason), count);
  }
  return text + fmt::format("| **rows** | **{}** |\n\n", collection.candidates.size());
}

std::string files(const WrittenData& data) {
  std::string text = "| file | rows | bytes | SHA-256 |\n|---|---|---|---|\n";
  for (const DataFile* file : {&data.train, &data.validation}) {
    if (file->name.empty()) continue;
    text += fmt::format("| {} | {} | {} | `{}` |\n", file->name, file->num_rows, file->num_bytes, file->hash);
  }
  return text + "\n";
}

std::string provenance(const Collection& collection) {
  std::string text =
      "| run | traces | model | adapter | checkpoint | chat template | sampling "
      "|\n|---|---|---|---|---|---|---|\n";
  for (const RunFacts& facts : collection.run_facts) {
    for (const auto& [source, num_traces] : facts.sources) {
      text += fmt::format("| {} | {} | {} | {} | `{:.16}` | `{:.16}` | `{}` |\n", facts.dir, num_traces,
                          source[0], source[1].empty() ? "none" : source[1], source[2], source[3], source[4]);
    }
  }
  return text + "\n";
}

std::string licences(const DatasetConfig& config) {
  std::string text = "Rows: " + (config.licence.empty() ? std::string("not said") : config.licence) + ".\n\n";
  for (const std::string& source : config.source_licences) text += "- " + source + "\n";
  if (config.source_licences.empty()) {
    text +=
        "The licence of the rows follows from those of the problems and of the model that wrote the "
        "answers.\n";
  }
  return text + "\n";
}

std::string problems(const Collection& collection) {
  std::string text = "| problem | rows | of | structure |\n|---|---|---|---|\n";
  for (const auto& [id, facts] : collection.problems) {
    const char* side = facts.is_held_out       ? "held out"
                       : facts.is_contaminated ? "like a held-out one"
                                               : "training";
    text += fmt::format("| {} | {} | {} | `{:.16}` |\n", id, facts.num_rows, side, facts.structure_hash);
  }
  return text + "\n";
}

}  // namespace

Status write_card(const DatasetConfig& config, const Collection& collection, const WrittenData& data,
                  const std::string& path) {
  std::string accepted;
  for (const std::string& verdict : config.accepted_verdicts)
    accepted += (accepted.empty() ? "`" : ", `") + verdict + "`";
  const std::string text =
      front_matter(config, data) +
      fmt::format(
          "# {}\n\nReasoning and Triton kernels for PyTorch problems: one chat a row (`messages`, the "
          "assistant's "
          "with `reasoning_content`).\nEvery kernel was run and compared with PyTorch (verdict {}); answers "
          "that "
          "failed are not here. Made by nemoforge {}.\n\n",
          data.train.name, accepted, config.nemoforge_version) +
      files(data) + "## Selection\n\n" + counts(collection) +
      fmt::format(
          "Duplicates are rows of equal code tokens and reasoning; near-duplicates have an estimated Jaccard "
          "similarity of {:.2f} or more in both (MinHash, {} hashes, runs of five tokens).\nHeld-out "
          "problems, "
          "and problems that differ from one only in names, shapes and constants or whose structure has a "
          "similarity of {:.2f} or more to one's, have no rows.\n\n",
          config.near_duplicate_similarity, kNumMinHashes, config.contamination_similarity) +
      "## Provenance\n\n" + provenance(collection) + "## Licences\n\n" + licences(config) +
      "## Problems\n\n" + problems(collection);
  return io::write_file_atomically(path, text);
}

}  // namespace nemoforge::dataset
