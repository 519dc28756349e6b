"""`nemoforge finetune` and `merge` from outside: what they write, loaded by PEFT and transformers."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

import numpy
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import peft_logits

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
DEMO = str(ROOT / "models" / "demo")


def run(*arguments, stdin=b""):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, timeout=600, check=False)


def row(i):
    return {
        "messages": [
            {"role": "user", "content": f"Multiply by {i}."},
            {"role": "assistant", "reasoning_content": f"A product with {i}.", "content": f"```python\ny = x * {i}\n```"},
        ]
    }


class FinetuneTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.data = self.folder / "sft.jsonl"
        self.data.write_text("".join(json.dumps(row(i)) + "\n" for i in range(12)))
        text = "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x * 3\n"
        self.ids = numpy.array(json.loads(self.output("tokenize", "--model", DEMO, stdin=text.encode())), dtype=numpy.int64)
        save_file({"text": self.ids}, self.folder / "ids.safetensors")

    def output(self, *arguments, stdin=b""):
        done = run(*arguments, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout

    def finetune(self, out, *flags):
        # A large rate, so that the adapter moves the logits by far more than rounding does.
        return self.output("finetune", "--model", DEMO, "--data", self.data, "--out", out, "--max-steps", 4, "--micro-batch-tokens", 512,
                           "--learning-rate", 0.005, *flags)

    def logits(self, model, *flags):
        path = self.folder / "logits.safetensors"
        self.output("logits", "--model", model, "--tokens", self.folder / "ids.safetensors", "--out", path, *flags)
        return load_file(path)["text.logits"]

    def assert_same(self, actual, expected):
        self.assertLess(numpy.abs(actual - expected).max(), 1e-3)
        self.assertGreater(numpy.abs(actual - self.logits(DEMO)).max(), 0.05)

    def test_peft_puts_the_adapter_onto_transformers_model(self):
        adapter = self.folder / "adapter"
        self.finetune(adapter, "--layout", "peft3d")
        self.assert_same(self.logits(DEMO, "--lora", adapter), peft_logits.logits(DEMO, self.ids, adapter))

    def test_both_layouts_are_the_same_adapter(self):
        for layout in ("per_expert", "peft3d"):
            self.finetune(self.folder / layout, "--layout", layout)
        numpy.testing.assert_array_equal(self.logits(DEMO, "--lora", self.folder / "per_expert"), self.logits(DEMO, "--lora", self.folder / "peft3d"))

    def test_a_merged_checkpoint_is_what_transformers_loads(self):
        adapter, merged = self.folder / "adapter", self.folder / "merged"
        self.finetune(adapter)
        self.output("merge", "--model", DEMO, "--lora", adapter, "--out", merged)
        logits = self.logits(merged)
        self.assert_same(logits, peft_logits.logits(str(merged), self.ids))
        # The merged weights are rounded to the checkpoint's bf16.
        with_adapter = self.logits(DEMO, "--lora", adapter)
        self.assertLess(numpy.linalg.norm(logits - with_adapter), 0.05 * numpy.linalg.norm(with_adapter))

    def test_full_finetuning_writes_a_checkpoint_that_transformers_loads(self):
        out = self.folder / "full"
        self.output("finetune", "--model", DEMO, "--data", self.data, "--out", out, "--method", "full", "--max-steps", 2, "--micro-batch-tokens", 512,
                    "--learning-rate", 0.001)
        self.assert_same(self.logits(out), peft_logits.logits(str(out), self.ids))

    def test_an_interrupted_run_goes_on_to_the_same_adapter(self):
        whole, broken = self.folder / "whole", self.folder / "broken"
        self.finetune(whole)
        arguments = ("finetune", "--model", DEMO, "--data", self.data, "--out", broken, "--max-steps", "4", "--micro-batch-tokens", "512",
                     "--learning-rate", "0.005")
        process = subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
        self.output(*arguments, "--resume")
        self.assertEqual((whole / "adapter_model.safetensors").read_bytes(), (broken / "adapter_model.safetensors").read_bytes())

    def test_tensorboard_reads_the_run_and_the_page_shows_it(self):
        out = self.folder / "a<b>"
        self.finetune(out, "--eval-fraction", 0.2)
        metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        events = EventAccumulator(str(out / "tensorboard"))
        events.Reload()
        for tag, key in (("train/loss", "loss"), ("train/learning_rate", "learning_rate"), ("eval/eval_loss", "eval_loss")):
            written = [(row["step"], numpy.float32(row[key])) for row in metrics if key in row]
            self.assertTrue(written)
            self.assertEqual([(event.step, numpy.float32(event.value)) for event in events.Scalars(tag)], written)
        page = (out / "curves.html").read_text()
        self.assertIn("a&lt;b&gt;", page)
        self.assertEqual(page.count("<polyline"), 5)
        self.assertNotIn("<script", page)

    def test_bad_data_is_one_sentence_that_names_the_line(self):
        self.data.write_text(json.dumps(row(1)) + "\n{\n")
        done = run("finetune", "--model", DEMO, "--data", self.data, "--out", self.folder / "out")
        self.assertEqual(done.returncode, 1)
        message = done.stderr.decode()
        self.assertIn("2", message)
        self.assertEqual(message.count("\n"), 1, message)


if __name__ == "__main__":
    unittest.main(verbosity=2)
