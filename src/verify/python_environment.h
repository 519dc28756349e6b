// The Python that runs problems and candidates, and the folder of the scripts that it runs.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace nemoforge::verify {

struct PythonEnvironment {
  std::string interpreter;                  // path of the Python with torch and triton
  std::string scripts;                      // the folder verifier/
  std::string ptxas;                        // the assembler that comes with triton
  std::vector<std::string> readable_paths;  // what a sandboxed Python must be able to read
  std::string torch_version;
  std::string triton_version;
};

// The interpreter of NEMOFORGE_PYTHON, or of `.venv` beside the program, above it, or in the source tree; the
// scripts of NEMOFORGE_VERIFIER_DIR or found likewise. kNotFound, with the mend, where torch or triton is
// missing.
[[nodiscard]] Result<PythonEnvironment> find_python_environment();

}  // namespace nemoforge::verify
