"""An adapter for the demo checkpoint, made by the program itself."""

import json
import os
import subprocess

from server_process import MODEL


def make_adapter(folder, learning_rate=0.01):
    """A LoRA adapter that moves the demo checkpoint's answers."""
    data = folder / "sft.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i} " * 20}]} for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [os.environ["NEMOFORGE_BINARY"], "finetune", "--model", MODEL, "--data", data, "--out", folder / "adapter", "--max-steps", "3",
               "--learning-rate", learning_rate]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder / "adapter"
