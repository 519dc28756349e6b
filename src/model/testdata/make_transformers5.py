"""Writes transformers5/: a nemotron_h checkpoint with biases as transformers 5 saves it without converting names back,
and LoRA adapters as PEFT saves them, with the logits of both.

    python make_transformers5.py          (torch 2.11, transformers 5.17, peft 0.21)
"""

import pathlib

import peft.tuners.tuners_utils
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import NemotronHConfig, NemotronHForCausalLM

# PEFT refuses out_proj of Mamba models; what it writes when allowed is what is wanted here.
peft.tuners.tuners_utils._check_lora_target_modules_mamba = lambda *args, **kwargs: None

FOLDER = pathlib.Path(__file__).parent / "transformers5"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "out_proj", "shared_experts.up_proj",
           "shared_experts.down_proj", "layers.3.mixer.up_proj", "layers.3.mixer.down_proj"]


def lift_time_step_clamp(model):
    for module in model.modules():
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, float("inf"))


def randomise(model):
    """Initial values are too regular: zeros and ones hide mistakes."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("A_log"):
                tensor.uniform_(0.0, 2.0)
            elif name.endswith("norm.weight") or name.endswith("norm_f.weight") or name.endswith(".D"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim >= 2:
                tensor.normal_(0, tensor.shape[-1] ** -0.5)
            else:
                tensor.normal_(0, 0.3)


def make_model():
    torch.manual_seed(20)
    config = NemotronHConfig(
        vocab_size=96, hidden_size=32, layers_block_type=["mamba", "moe", "attention", "mlp", "moe", "mamba"],
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=40, ssm_state_size=16,
        mamba_num_heads=6, mamba_head_dim=8, n_groups=3, chunk_size=16, n_routed_experts=6,
        moe_intermediate_size=24, moe_shared_expert_intermediate_size=28, num_experts_per_tok=2, n_group=2,
        topk_group=1, routed_scaling_factor=1.5, use_bias=True, mlp_bias=True, conv_kernel=3, eos_token_id=[2, 11])
    model = NemotronHForCausalLM(config).eval()
    randomise(model)
    lift_time_step_clamp(model)
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids[None], use_cache=False).logits[0].contiguous()


def adapter(name, ids, **options):
    model = make_model()
    torch.manual_seed(21)
    adapted = get_peft_model(model, LoraConfig(lora_alpha=6, init_lora_weights=False, **options))
    adapted.eval()
    adapted.save_pretrained(FOLDER / name)
    (FOLDER / name / "README.md").unlink(missing_ok=True)
    return logits_of(adapted, ids)


def main():
    model = make_model()
    model.save_pretrained(FOLDER, save_original_format=False)
    ids = torch.randint(0, 96, (50,), generator=torch.Generator().manual_seed(22))
    tensors = {"input_ids": ids, "logits": logits_of(model, ids)}
    tensors["all_linears.logits"] = adapter(
        "all_linears", ids, r=3, target_modules=LINEARS,
        target_parameters=["mixer.experts.down_proj", "mixer.experts.up_proj"])
    tensors["patterns.logits"] = adapter(
        "patterns", ids, r=4, use_rslora=True, target_modules=["q_proj", "in_proj"],
        target_parameters=["mixer.experts.down_proj"],
        rank_pattern={"layers.0.mixer.in_proj": 2, "experts.down_proj": 5}, alpha_pattern={r"^model\.layers\.2\.mixer\.q_proj": 9})
    save_file(tensors, FOLDER / "golden.safetensors")


main()
