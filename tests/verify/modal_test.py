#!/usr/bin/env python3
"""deploy/modal_verifier.py against the real `modal` package, as far as that goes without an account: the app is defined, and
what it would start is a command line of this program."""

import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy"))

import modal  # noqa: E402
import modal_verifier  # noqa: E402

BINARY = os.environ["NEMOFORGE_BINARY"]


class ModalVerifierTest(unittest.TestCase):
    def test_defines_the_app(self):
        self.assertEqual(modal_verifier.app.name, "nemoforge-verify")
        self.assertIsInstance(modal_verifier.verify_worker, modal.Function)

    def test_starts_a_command_of_this_program(self):
        program, command, *flags = modal_verifier.worker_command()
        self.assertEqual(pathlib.PurePosixPath(program).name, "nemoforge")
        # Without a key the worker refuses an open address, and says so: every flag before that was taken.
        environment = {name: value for name, value in os.environ.items() if name != "NEMOFORGE_API_KEY"}
        done = subprocess.run([BINARY, command, *flags], env=environment, capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("key", done.stderr)
        self.assertNotIn("--help", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
