"""Loads an adapter that nemoforge trained onto transformers' NemotronH with PEFT, and compares logits.

    check_peft_adapter.py MODEL ADAPTER IDS.safetensors LOGITS.safetensors

IDS holds `ids`, LOGITS what `nemoforge logits --lora ADAPTER` made of it.

Prints the largest difference, and fails beyond 1e-3 or where the adapter changes nothing.
"""

import sys

import peft.tuners.tuners_utils
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import NemotronHForCausalLM

# PEFT refuses out_proj of Mamba models.
peft.tuners.tuners_utils._check_lora_target_modules_mamba = lambda *args, **kwargs: None


def main():
    model_dir, adapter_dir, ids_path, logits_path = sys.argv[1:]
    model = NemotronHForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    for module in model.modules():
        # transformers clamps the time step in prefill; the model was trained without.
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, float("inf"))
    ids = load_file(ids_path)["ids"].long()
    expected = load_file(logits_path)["ids.logits"]
    with torch.no_grad():
        base = model(input_ids=ids[None], use_cache=False).logits[0]
        adapted = PeftModel.from_pretrained(model, adapter_dir).eval()
        logits = adapted(input_ids=ids[None], use_cache=False).logits[0]
    difference = (logits - expected).abs().max().item()
    change = (logits - base).abs().max().item()
    print(f"largest difference {difference:.2e}; the adapter changes logits by up to {change:.2e}")
    if not difference < 1e-3 or change < 10 * difference:
        sys.exit(1)


if __name__ == "__main__":
    main()
