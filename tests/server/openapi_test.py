"""The server answers as docs/openapi.yaml says, to what schemathesis makes of that description: no 5xx, no undescribed status, type or body."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

from server_process import ROOT, Server

CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"


class OpenApiTest(unittest.TestCase):
    def test_conformance(self):
        schemathesis = pathlib.Path(sys.executable).parent / "schemathesis"
        with Server("--max-model-len", "512", "--allow-lora-updates", "--no-access-log") as server, tempfile.TemporaryDirectory() as folder:
            command = [schemathesis, "run", ROOT / "docs" / "openapi.yaml", "--url", server.url, "--checks", CHECKS, "--max-examples", "40",
                       "--seed", "1", "--request-timeout", "60", "--generation-deterministic"]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False, cwd=folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
