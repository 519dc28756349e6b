"""`nemoforge finetune` and `merge` from outside: what they write, loaded by PEFT and transformers."""

import ast
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import numpy
import torch
import yaml
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import NemotronHForCausalLM

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

    def losses(self, out):
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return numpy.array([row["loss"] for row in rows if "loss" in row])

    def test_kept_activations_give_the_same_adapter(self):
        all_again, kept = self.folder / "all", self.folder / "none"
        self.finetune(all_again, "--lora-dropout", 0.1)
        plan = self.finetune(kept, "--lora-dropout", 0.1, "--recompute", "none").decode()
        self.assertEqual((all_again / "adapter_model.safetensors").read_bytes(), (kept / "adapter_model.safetensors").read_bytes())
        self.assertEqual(plan.count(" kept\n"), 3, plan)
        self.assertEqual(json.loads((kept / "adapter_config.json").read_text())["lora_dropout"], 0.1)

    def test_eight_bit_moments_learn_like_those_of_f32(self):
        f32, block = self.folder / "f32", self.folder / "8bit"
        common = ("finetune", "--model", DEMO, "--data", self.data, "--method", "full", "--max-steps", 6, "--micro-batch-tokens", 512,
                  "--learning-rate", 0.001)
        self.output(*common, "--out", f32)
        self.output(*common, "--out", block, "--optimizer", "adamw8bit")
        self.assertLess(self.losses(f32)[-1], 0.8 * self.losses(f32)[0])
        numpy.testing.assert_allclose(self.losses(block), self.losses(f32), rtol=0.05)
        self.assertLess((block / "run_state.safetensors").stat().st_size, 0.55 * (f32 / "run_state.safetensors").stat().st_size)

    def test_what_is_served_has_the_probabilities_that_were_trained(self):
        adapter, merged = self.folder / "adapter", self.folder / "merged"
        self.finetune(adapter, "--eval-fraction", 0.3)
        measured = [json.loads(line) for line in (adapter / "metrics.jsonl").read_text().splitlines()][-1]
        self.assertEqual(measured["step"], 4)
        self.assertGreater(measured["serving_num_tokens"], 20)
        self.assertLess(measured["serving_kl"], 1e-6)
        self.assertLess(measured["serving_logprob_difference"], 1e-2)
        said = self.output("merge", "--model", DEMO, "--lora", adapter, "--out", merged, "--check", self.data).decode()
        match = re.search(r"adapter and merged weights: mean KL (\S+) nats, log-probabilities within (\S+), over (\d+) tokens", said)
        self.assertIsNotNone(match, said)
        self.assertLess(float(match[1]), 1e-2)
        self.assertGreater(float(match[2]), 0)
        self.assertGreater(int(match[3]), 100)

    def new_model_folder(self, **changes):
        folder = self.folder / "new_model"
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(pathlib.Path(DEMO) / name, folder)
        config = json.loads((pathlib.Path(DEMO) / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return folder

    def test_a_new_model_begins_as_transformers_begins(self):
        begun = self.folder / "begun"
        # No value moves by more than the rate, which is far below bf16's steps.
        self.output("finetune", "--method", "full", "--init", "random", "--model", self.new_model_folder(initializer_range=0.03), "--data", self.data,
                    "--out", begun, "--max-steps", 1, "--learning-rate", 1e-12, "--seed", 5)
        torch.manual_seed(1)
        expected = dict(NemotronHForCausalLM(NemotronHForCausalLM.config_class.from_pretrained(begun)).named_parameters())
        expected.update(NemotronHForCausalLM(NemotronHForCausalLM.config_class.from_pretrained(begun)).named_buffers())
        actual = NemotronHForCausalLM.from_pretrained(begun, dtype=torch.float32)
        actual = {**dict(actual.named_parameters()), **dict(actual.named_buffers())}
        self.assertEqual(actual.keys(), expected.keys())
        for name, tensor in expected.items():
            ours, theirs = (t.detach().float().flatten().numpy() for t in (actual[name], tensor))
            if name.endswith("dt_bias"):  # 16 draws a layer: the range alone
                self.assertGreaterEqual(numpy.log1p(numpy.exp(ours)).min(), 0.00099, name)
                self.assertLessEqual(numpy.log1p(numpy.exp(ours)).max(), 0.101, name)
                continue
            if theirs.std() == 0 or name.endswith("A_log"):
                numpy.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9, err_msg=name)
                continue
            # Five standard errors of a mean and of a standard deviation, and bf16's rounding.
            self.assertLess(abs(ours.mean() - theirs.mean()), 5 * theirs.std() * (2 / theirs.size) ** 0.5, name)
            self.assertLess(abs(ours.std() / theirs.std() - 1), 5 / theirs.size**0.5 + 0.004, name)
            self.assertLess(abs(numpy.abs(ours).max() / numpy.abs(theirs).max() - 1), 0.35, name)

    def test_a_new_model_learns_and_is_served(self):
        folder, out = self.new_model_folder(), self.folder / "trained"
        flags = ("finetune", "--method", "full", "--init", "random", "--model", folder, "--data", self.data, "--max-steps", 12, "--micro-batch-tokens",
                 512, "--learning-rate", 0.003, "--warmup-steps", 2)
        self.output(*flags, "--out", out)
        losses = self.losses(out)
        self.assertLess(abs(losses[0] - numpy.log(4096)), 0.5)  # it knows nothing
        self.assertLess(losses[-1], 0.6 * losses[0])
        numpy.testing.assert_allclose(self.logits(out), peft_logits.logits(str(out), self.ids), atol=1e-3)
        self.assertEqual(self.output("generate", "--model", out, "--prompt", "Multiply", "--max-tokens", 4, "--temperature", 0),
                         self.output("generate", "--model", out, "--prompt", "Multiply", "--max-tokens", 4, "--temperature", 0))
        again = self.folder / "again"
        self.output(*flags, "--out", again)
        self.assertEqual((out / "model.safetensors").read_bytes(), (again / "model.safetensors").read_bytes())

    def test_random_weights_are_for_full_training(self):
        done = run("finetune", "--init", "random", "--model", DEMO, "--data", self.data, "--out", self.folder / "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--method full", done.stderr.decode())

    def export(self, engine, *flags):
        out = self.folder / engine
        self.output("finetune", "--model", DEMO, "--data", self.data, "--out", out, "--export", engine, "--eval-fraction", 0.3, "--rank", 8,
                    "--lora-dropout", 0.05, "--epochs", 2, *flags)
        rows = [(out / name).read_text().splitlines() for name in ("training.jsonl", "validation.jsonl")]
        self.assertEqual(sorted(json.dumps(json.loads(line)) for part in rows for line in part), sorted(json.dumps(row(i)) for i in range(12)))
        self.assertTrue(rows[1])
        return out

    def test_exports_a_recipe_for_automodel(self):
        recipe = yaml.safe_load((self.export("nemo-automodel") / "recipe.yaml").read_text())
        self.assertEqual(recipe["recipe"], "TrainFinetuneRecipeForNextTokenPrediction")
        self.assertEqual(recipe["peft"]["dim"], 8)
        self.assertEqual(recipe["peft"]["dropout"], 0.05)
        self.assertEqual(recipe["dataset"]["path_or_dataset_id"], "training.jsonl")
        self.assertEqual(recipe["validation_dataset"]["path_or_dataset_id"], "validation.jsonl")
        self.assertEqual(recipe["optimizer"]["eps"], 1e-8)
        self.assertEqual(recipe["step_scheduler"]["num_epochs"], 2)
        self.assertEqual(recipe["model"]["pretrained_model_name_or_path"], DEMO)

    def test_exports_a_recipe_for_megatron_bridge(self):
        text = (self.export("megatron-bridge", "--lora-targets", "attention,experts") / "recipe.py").read_text()
        calls = {node.func.id: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        self.assertIn("nemotron_3_nano_peft_8gpu_h100_bf16_config", calls)
        lora = {keyword.arg: ast.literal_eval(keyword.value) for keyword in calls["LoRA"].keywords}
        self.assertEqual(lora["target_modules"], ["linear_qkv", "linear_proj", "*.mlp.experts.linear_fc1", "*.mlp.experts.linear_fc2"])
        self.assertEqual((lora["dim"], lora["dropout"]), (8, 0.05))
        self.assertIn("GPTSFTDatasetConfig", calls)

    def test_bad_data_is_one_sentence_that_names_the_line(self):
        self.data.write_text(json.dumps(row(1)) + "\n{\n")
        done = run("finetune", "--model", DEMO, "--data", self.data, "--out", self.folder / "out")
        self.assertEqual(done.returncode, 1)
        message = done.stderr.decode()
        self.assertIn("2", message)
        self.assertEqual(message.count("\n"), 1, message)


if __name__ == "__main__":
    unittest.main(verbosity=2)
