"""The commands from outside: what they print, and the exit codes 0 (done), 1 (failed, said in one line), 2 (usage)."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import numpy
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
DEMO = str(ROOT / "models" / "demo")
GOLDEN = pathlib.Path(os.environ.get("NEMOFORGE_GOLDEN_DIR", ROOT / "tests" / "golden"))
MESSAGES = [{"role": "user", "content": "Say hello."}]


def run(*arguments, stdin=b""):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, timeout=300, check=False)


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def output(self, *arguments, stdin=b""):
        done = run(*arguments, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout

    def failure(self, code, *arguments, stdin=b""):
        done = run(*arguments, stdin=stdin)
        self.assertEqual(done.returncode, code, done)
        return done.stderr.decode()


class Filters(CommandTest):
    def test_detokenize_undoes_tokenize(self):
        text = "def f(x):\n\treturn x  # naïve 日本 🙂\r\n   \n".encode()
        ids = self.output("tokenize", "--model", DEMO, stdin=text)
        self.assertEqual(self.output("detokenize", "--model", DEMO, stdin=ids), text)

    def test_jsonl_answers_line_by_line(self):
        lines = ["", "a", "two\nlines", "<think>special</think>"]
        stdin = "".join(json.dumps(line) + "\n" for line in lines).encode()
        arrays = self.output("tokenize", "--model", DEMO, "--jsonl", stdin=stdin)
        self.assertEqual([json.loads(line) for line in self.output("detokenize", "--model", DEMO, "--jsonl", stdin=arrays).splitlines()], lines)

    def test_a_bad_line_is_named(self):
        message = self.failure(1, "tokenize", "--model", DEMO, "--jsonl", stdin=b'"a"\n{}\n')
        self.assertIn("line 2", message)

    def test_render_takes_a_chat_request(self):
        text = self.output("render", "--model", DEMO, stdin=json.dumps({"messages": MESSAGES}).encode()).decode()
        self.assertIn("Say hello.", text)
        open_ended = {"messages": MESSAGES, "add_generation_prompt": False}
        self.assertTrue(text.startswith(self.output("render", "--model", DEMO, stdin=json.dumps(open_ended).encode()).decode()))

    def test_hostile_json_is_one_sentence(self):
        for stdin in (b"", b"{", b"[" * 200_000, b'{"messages": 3}', b'{"messages": [{"role": 1}]}', b"\xff\xfe"):
            message = self.failure(1, "render", "--model", DEMO, stdin=stdin)
            self.assertEqual(message.count("\n"), 1, message)

    def test_logits_equal_the_golden(self):
        golden = load_file(GOLDEN / "tiny" / "golden.safetensors")
        tokens = {f"prompt{i}": golden[f"prefill.{i}.input_ids"].astype(numpy.int64) for i in range(3)}
        save_file(tokens, self.folder / "ids.safetensors")
        self.output("logits", "--model", GOLDEN / "tiny", "--tokens", self.folder / "ids.safetensors", "--out", self.folder / "out.safetensors")
        logits = load_file(self.folder / "out.safetensors")
        for i in range(3):
            error = numpy.abs(logits[f"prompt{i}.logits"] - golden[f"prefill.{i}.logits"]).max()
            self.assertLess(error, 2e-4)


class Generate(CommandTest):
    def test_greedy_text_is_the_same_by_text_ids_and_stream(self):
        plain = self.output("generate", "--model", DEMO, "--prompt", "import torch", "--max-tokens", 12).decode()
        ids = self.output("tokenize", "--model", DEMO, stdin=b"import torch").decode().strip().strip("[]")
        answer = json.loads(self.output("generate", "--model", DEMO, "--prompt-ids", ids, "--max-tokens", 12, "--json"))
        self.assertEqual(answer["text"] + "\n", plain)
        self.assertEqual(answer["usage"]["completion_tokens"], len(answer["token_ids"]))

    def test_messages_come_from_a_file_or_standard_input(self):
        path = self.folder / "messages.json"
        path.write_text(json.dumps(MESSAGES))
        arguments = ("generate", "--model", DEMO, "--max-tokens", 8, "--messages")
        self.assertEqual(self.output(*arguments, path), self.output(*arguments, "-", stdin=path.read_bytes()))

    def test_sampling_repeats_with_its_seed(self):
        arguments = ("generate", "--model", DEMO, "--prompt", "x", "--max-tokens", 16, "--temperature", 1.5, "--seed")
        self.assertEqual(self.output(*arguments, 7), self.output(*arguments, 7))
        self.assertNotEqual(self.output(*arguments, 7), self.output(*arguments, 8))

    def test_a_token_id_out_of_the_vocabulary_is_refused(self):
        self.failure(1, "generate", "--model", DEMO, "--prompt-ids", "5,999999", "--max-tokens", 1)


class ExitCodes(CommandTest):
    def test_every_command_explains_itself(self):
        top = self.output("--help").decode()
        for command in ("generate", "chat", "tokenize", "detokenize", "render", "logits", "trace", "verify", "dataset", "bench", "doctor"):
            self.assertIn(command, top)
            self.assertIn("--help", self.output(command, "--help").decode())

    def test_a_wrong_command_line_is_2(self):
        self.failure(2)
        self.failure(2, "generat")
        self.failure(2, "generate", "--model", DEMO)
        self.failure(2, "generate", "--model", DEMO, "--prompt", "x", "--temperature", "hot")
        self.failure(2, "tokenize")

    def test_a_flag_out_of_range_is_2_before_anything_is_loaded(self):
        flags = {
            "--temperature": ("-1", "nan", "inf"), "--top-p": ("1.5", "nan"), "--min-p": ("2",), "--repetition-penalty": ("0",),
            "--presence-penalty": ("3",), "--logit-bias": ("5", "5=x"), "--min-tokens": ("-1",), "--stop": ("",), "--logprobs": ("-1",),
            "--seed": ("-1", "99999999999999999999999", "0x5"), "--max-tokens": ("0",),
        }
        for flag, values in flags.items():
            for value in values:
                self.failure(2, "generate", "--model", "/nowhere", "--prompt", "a", flag, value)
        self.failure(2, "generate", "--model", "/nowhere", "--prompt-ids", "5,9,")
        run_dir = self.folder / "run"
        for flag, value in (("--temperature", "nan"), ("--ids", "5-1"), ("--filter", "("), ("--seed", "-1")):
            self.failure(2, "trace", "--model", DEMO, "--problems", ROOT / "problems" / "bundled", "--run", run_dir, flag, value)
        self.failure(2, "dataset", "--run", run_dir, "--out", self.folder / "x.jsonl", "--min-speedup", "nan")
        self.failure(2, "dataset", "--run", run_dir, "--out", self.folder / "x.jsonl", "--accept", "corect")
        self.assertFalse(run_dir.exists())

    def test_only_trace_creates_a_run(self):
        run_dir = self.folder / "none"
        for command in ("verify", "report"):
            self.assertIn("there is no run in", self.failure(1, command, "--run", run_dir))
        self.assertFalse(run_dir.exists())

    def test_standard_input_that_cannot_be_read_is_1(self):
        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        done = subprocess.run([BINARY, "tokenize", "--model", DEMO], stdin=folder, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)

    def test_a_shard_cut_short_while_it_is_read_is_one_sentence(self):
        copy = self.folder / "demo"
        shutil.copytree(DEMO, copy)
        process = subprocess.Popen([BINARY, "generate", "--model", copy, "--prompt", "x", "--max-tokens", "3000", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)  # it is generating
        with open(sorted(copy.glob("*.safetensors"))[0], "r+b") as file:
            file.truncate(20000)
        message = process.communicate(timeout=300)[1].decode()
        self.assertEqual(process.returncode, 1)
        self.assertIn("cut short", message)

    def test_a_missing_checkpoint_is_1_and_named(self):
        self.assertIn("/nowhere", self.failure(1, "generate", "--model", "/nowhere", "--prompt", "x"))

    def test_a_truncated_shard_names_the_file(self):
        copy = self.folder / "demo"
        shutil.copytree(DEMO, copy)
        shard = sorted(copy.glob("*.safetensors"))[0]
        with open(shard, "r+b") as file:
            file.truncate(shard.stat().st_size - 4)
        message = self.failure(1, "generate", "--model", copy, "--prompt", "x")
        self.assertIn(shard.name, message)
        self.assertEqual(message.count("\n"), 1, message)

    def test_a_header_that_lies_is_refused(self):
        copy = self.folder / "demo"
        shutil.copytree(DEMO, copy)
        shard = sorted(copy.glob("*.safetensors"))[0]
        data = shard.read_bytes()
        shard.write_bytes(struct.pack("<Q", 1 << 62) + data[8:])
        self.assertIn(shard.name, self.failure(1, "generate", "--model", copy, "--prompt", "x"))

    def test_an_unwritable_output_is_1(self):
        save_file({"a": numpy.array([5], dtype=numpy.int64)}, self.folder / "ids.safetensors")
        self.failure(1, "logits", "--model", DEMO, "--tokens", self.folder / "ids.safetensors", "--out", self.folder / "none" / "out.safetensors")

    def test_a_closed_pipe_is_no_crash(self):
        process = subprocess.Popen([BINARY, "generate", "--model", DEMO, "--prompt", "x", "--max-tokens", "64", "--temperature", "1", "--seed", "1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        self.assertGreaterEqual(process.wait(timeout=300), 0)
        process.stderr.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
