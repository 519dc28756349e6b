"""Datasets as their readers take them: Hugging Face's `datasets`, TRL's SFT trainer, NeMo Automodel and `nemoforge finetune`
read the same rows, the same tokens and the same tokens with loss.
"""

import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import tempfile
import unittest

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import transformers
import trl
import yaml
from nemo_automodel.components.datasets.llm.chat_dataset import ChatDataset

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ["NEMOFORGE_BINARY"]
DEMO = str(ROOT / "models" / "demo")
PROBLEMS = ROOT / "problems" / "bundled"
# What datasets reads before it settles the types of the columns.
DATASETS_BLOCK_BYTES = 10 << 20
NO_LOSS = -100  # the label of a token that PyTorch's cross entropy leaves out


def nemoforge(*arguments, stdin=b""):
    done = subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def jsonl(values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def trace_of(run, problem, sample, attempt):
    query = "select id, messages_json, answer, reasoning from traces where problem_id = ? and sample_idx = ? and attempt_idx = ?"
    return run.execute(query, (problem, sample, attempt)).fetchone()


def add_verdict(run, trace_id, verdict, speedup=None, record="{}"):
    run.execute("insert into verdicts (run_id, trace_id, verdict, family, stage, correct, speedup, device, sandboxed, record_json, started_ms, "
                "finished_ms) values (1, ?, ?, '', '', ?, ?, 'cuda', 1, ?, 0, 0)",
                (trace_id, verdict, verdict.startswith("correct"), speedup, record))


def add_copy(run, trace_id, **changes):
    """Another trace like this one; its id."""
    columns = [row[1] for row in run.execute("pragma table_info(traces)") if row[1] != "id"]
    values = [f":{name}" if name in changes else name for name in columns]
    query = f"insert into traces ({', '.join(columns)}) select {', '.join(values)} from traces where id = :trace_id"
    return run.execute(query, {**changes, "trace_id": trace_id}).lastrowid


def as_written(row):
    """datasets reads times as times."""
    if "final_result" in row:
        row["final_result"]["timestamp"] = row["final_result"]["timestamp"].isoformat()
    return row


class ReadersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        problems = cls.folder / "problems"
        problems.mkdir()
        for name in ("train_00", "train_02", "train_05"):
            shutil.copy(PROBLEMS / f"{name}.py", problems)
        # Answers as the model wrote them; which are right is set here, so that rows of every kind are there.
        nemoforge("trace", "--model", DEMO, "--problems", problems, "--run", cls.folder / "run", "--samples", "2", "--max-tokens", "600")
        with sqlite3.connect(cls.folder / "run" / "run.sqlite") as run:
            run.execute("update traces set finish_reason = 'stop', code = 'x = ' || id where code = '' or finish_reason <> 'stop'")
            for problem in ("train_00", "train_02", "train_05"):
                for sample in range(2):
                    first, messages, answer, reasoning = trace_of(run, problem, sample, 0)
                    if sample == 0:
                        add_verdict(run, first, "correct_cpu")
                        continue
                    add_verdict(run, first, "mismatch")
                    turns = json.loads(messages) + [{"role": "assistant", "content": answer, "reasoning_content": reasoning},
                                                    {"role": "user", "content": "ModelNew was run and rejected: its outputs differ."}]
                    second = add_copy(run, first, attempt_idx=1, messages_json=json.dumps(turns), code=f"second = {first}")
                    add_verdict(run, second, "correct", 1.0, '{"kernel_ms": 2.0, "reference_ms": 2.0}')
        cls.out = {}
        for form in ("chat", "kernelbook"):
            cls.out[form] = cls.folder / f"{form}.jsonl"
            nemoforge("dataset", "--run", cls.folder / "run", "--out", cls.out[form], "--model", DEMO, "--format", form, "--near-duplicate", "1.1")
        cls.rows = [json.loads(line) for line in cls.out["chat"].read_text().splitlines()]
        # Ids as the engine would be given them.
        rendered = nemoforge("render", "--model", DEMO, "--jsonl",
                             stdin=jsonl({"messages": row["messages"], "add_generation_prompt": False} for row in cls.rows))
        cls.token_ids = [json.loads(line) for line in nemoforge("tokenize", "--model", DEMO, "--jsonl", stdin=rendered.encode()).splitlines()]
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)

    def load(self, **files):
        return datasets.load_dataset("json", data_files={split: str(path) for split, path in files.items()}, cache_dir=str(self.folder / "cache"))

    def test_there_are_rows_of_one_turn_and_of_several(self):
        self.assertEqual(sorted(len(row["messages"]) for row in self.rows), [2, 2, 2, 4, 4, 4])
        self.assertEqual({row["speedup"] for row in self.rows}, {0.0, 1.0})

    def test_datasets_reads_every_row_as_it_was_written(self):
        for form in ("chat", "kernelbook"):
            written = [json.loads(line) for line in self.out[form].read_text().splitlines()]
            self.assertEqual([as_written(row) for row in self.load(train=self.out[form])["train"]], written, form)

    def test_types_of_columns_hold_through_large_files_and_between_splits(self):
        for form in ("chat", "kernelbook"):
            lines = self.out[form].read_text().splitlines(keepends=True)
            measured = [line for line in lines if '"speedup":1.0' in line]
            unmeasured = [line for line in lines if '"speedup":0.0' in line]
            self.assertTrue(measured and unmeasured)
            repeats = 1 + DATASETS_BLOCK_BYTES // len("".join(unmeasured))
            large, small = self.folder / f"large_{form}.jsonl", self.folder / f"small_{form}.jsonl"
            large.write_text("".join(unmeasured * repeats + measured))
            small.write_text("".join(measured))
            loaded = self.load(train=large, validation=small)
            self.assertEqual(len(loaded["train"]), len(unmeasured) * repeats + len(measured))
            self.assertEqual([as_written(row) for row in loaded["validation"]], [json.loads(line) for line in measured])

    def test_transformers_makes_the_tokens_that_nemoforge_counts(self):
        for row, ids in zip(self.rows, self.token_ids, strict=True):
            theirs = self.tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)
            self.assertEqual(theirs, ids)
            self.assertEqual(row["num_tokens"], len(ids))

    def test_nemo_automodel_reads_what_export_writes(self):
        job = self.folder / "automodel"
        nemoforge("finetune", "--model", DEMO, "--data", self.out["chat"], "--out", job, "--max-tokens", "8192", "--export", "nemo-automodel")
        settings = yaml.safe_load((job / "recipe.yaml").read_text())["dataset"]
        self.assertEqual(settings.pop("_target_"), f"{ChatDataset.__module__}.{ChatDataset.__name__}")
        dataset = ChatDataset(str(job / settings.pop("path_or_dataset_id")), self.tokenizer, **settings)
        self.assertEqual(len(dataset), len(self.rows))
        for row, ids, theirs in zip(self.rows, self.token_ids, dataset, strict=True):
            self.assertEqual(list(theirs["input_ids"]), ids[:-1])  # theirs are shifted already
            turns = [message for message in row["messages"] if message["role"] == "assistant"]
            learnt = self.tokenizer.decode([label for label in theirs["labels"] if label != NO_LOSS])
            if len(turns) == 1:
                self.assertEqual(learnt, f"{turns[0]['reasoning_content']}\n</think>\n{turns[0]['content']}<|im_end|>\n")
            else:
                self.assertIn(turns[-1]["content"], learnt)

    def test_trl_trains_on_the_tokens_that_finetune_trains_on(self):
        # The template with TRL's marks round what the assistant writes.
        tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
        for prompt, written in (("<think>\\n' + ", "m.reasoning_content + '\\n</think>\\n' + m.content"), ("' + ", "m.content"),
                                ("<think></think>' + ", "m.content")):
            plain = f"{{{{- '<|im_start|>assistant\\n{prompt}{written} + '<|im_end|>\\n' }}}}"
            self.assertIn(plain, tokenizer.chat_template)
            tokenizer.chat_template = tokenizer.chat_template.replace(
                plain, f"{{{{- '<|im_start|>assistant\\n{prompt.removesuffix(' + ')} }}}}{{% generation %}}{{{{ {written} + '<|im_end|>' }}}}"
                       "{% endgeneration %}{{ '\\n' }}")
        trainer = trl.SFTTrainer(
            model=transformers.AutoModelForCausalLM.from_pretrained(DEMO, dtype="float32"),
            args=trl.SFTConfig(output_dir=str(self.folder / "trl"), max_length=None, assistant_only_loss=True, max_steps=1, use_cpu=True, bf16=False,
                               per_device_train_batch_size=1, gradient_checkpointing=False, report_to=[], save_strategy="no", seed=1),
            train_dataset=self.load(train=self.out["chat"])["train"], processing_class=tokenizer)
        prepared = trainer.train_dataset
        self.assertEqual([list(ids) for ids in prepared["input_ids"]], self.token_ids)
        masks = [[label != NO_LOSS for label in labels] for labels in prepared["labels"]]
        for row, mask, ids in zip(self.rows, masks, self.token_ids, strict=True):
            learnt = self.tokenizer.decode([token for token, is_learnt in zip(ids, mask, strict=True) if is_learnt])
            turns = [message for message in row["messages"] if message["role"] == "assistant"]
            self.assertEqual(learnt, "".join(f"{turn['reasoning_content']}\n</think>\n{turn['content']}<|im_end|>" for turn in turns))
        words = nemoforge("finetune", "--model", DEMO, "--data", self.out["chat"], "--out", self.folder / "adapter", "--max-steps", "1",
                          "--max-tokens", "8192")
        found = re.search(r"(\d+) documents, (\d+) tokens, (\d+) of them with loss", words)
        self.assertEqual([int(count) for count in found.groups()],
                         [len(self.rows), sum(len(ids) - 1 for ids in self.token_ids), sum(map(sum, masks))], words)
        self.assertGreater(trainer.train().training_loss, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
