// nemoforge report: what the verdicts of runs come to.
#include "report/report.h"

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "io/file.h"
#include "report/kernelbench.h"
#include "store/run_store.h"

namespace nemoforge::cli {
namespace {

struct ReportCommand {
  std::vector<std::string> run_dirs;
  std::vector<int64_t> ks;
  std::string html;
  std::string kernelbench_out;
  bool json = false;
};

Status run_report(const ReportCommand& command) {
  if (!command.kernelbench_out.empty() && command.run_dirs.size() != 1) {
    throw CLI::ValidationError("--kernelbench-out", "takes exactly one --run");
  }
  std::vector<report::RunReport> reports;
  for (const std::string& dir : command.run_dirs) {
    NF_TRY(const store::RunStore run, store::RunStore::open(dir, store::Access::kRead));
    NF_TRY(report::RunReport report, report::report_run(run, dir, command.ks));
    reports.push_back(std::move(report));
    if (!command.kernelbench_out.empty()) {
      NF_RETURN_IF_ERROR(report::write_kernelbench(run, command.kernelbench_out));
    }
  }
  if (!command.html.empty()) {
    NF_RETURN_IF_ERROR(io::write_file_atomically(command.html, report::to_html(reports)));
  }
  return write_standard_output(command.json ? report::to_json(reports) + "\n" : report::to_table(reports));
}

}  // namespace

void add_report_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<ReportCommand>();
  CLI::App* sub =
      add_command(app, outcome, "report", "Report pass@k, fast_p, verdicts, speedups and tokens of runs",
                  [command] { return run_report(*command); });
  sub->add_option("--run", command->run_dirs, "Folder of a run; takes several")->required();
  sub->add_option("--k", command->ks, "Values of k for pass@k, such as 1,5,10 (default: powers of two)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  sub->add_option("--html", command->html, "File to write a self-contained page with plots to");
  sub->add_option("--kernelbench-out", command->kernelbench_out,
                  "Folder to write the run to in KernelBench's layout (kernels, eval_results.json), one "
                  "subfolder per level");
  sub->add_flag("--json", command->json, "Print one JSON object instead of tables");
}

}  // namespace nemoforge::cli
