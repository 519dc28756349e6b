"""Logits of transformers' NemotronH, with an adapter that PEFT loads onto it where one is given."""

import peft.tuners.tuners_utils
import torch
from peft import PeftModel
from transformers import NemotronHForCausalLM

# PEFT refuses out_proj of Mamba models.
peft.tuners.tuners_utils._check_lora_target_modules_mamba = lambda *args, **kwargs: None


def logits(model_dir, ids, adapter_dir=None):
    """[n, vocab_size] float32 of the token ids `ids` [n]."""
    model = NemotronHForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    for module in model.modules():
        # transformers clamps the time step in prefill; the checkpoint's own limits are [0, inf].
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, float("inf"))
    if adapter_dir is not None:
        model = PeftModel.from_pretrained(model, adapter_dir).eval()
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()
