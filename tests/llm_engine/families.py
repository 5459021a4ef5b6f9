#!/usr/bin/env python3
"""Writes families.txt: the logits of a small model of each family, as `transformers` computes them.

    pip install torch transformers
    python tests/llm_engine/families.py

The weights are a function of the tensor's name in a GGUF file and of the element's place, so that the test in
crates/llm/src/decoder/tests.rs can make the same models. One line a value: `family F`, `tokens ...`, `logits ...` (of
the last token and of one in the middle).
"""

import pathlib

import numpy
import torch
import transformers

LAYERS = 7
WIDTH, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, VOCAB, CONTEXT = 64, 4, 2, 32, 96, 80, 64
EXPERTS, USED, WINDOW = 6, 2, 8
TOKENS = [(at * 37 + 11) % VOCAB for at in range(24)]
MIDDLE = 13


def numbers(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor of this name: SplitMix64 of the FNV-1a of the name plus the place, from -1/8 to 1/8; of norms, plus 1."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    with numpy.errstate(over="ignore"):
        x = numpy.uint64(state) + numpy.arange(numpy.prod(shape), dtype=numpy.uint64)
        x = x + numpy.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x = x ^ (x >> numpy.uint64(31))
    unit = (x >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 24) - numpy.float32(0.5)
    unit = unit / numpy.float32(4)
    if "norm" in name:
        unit = unit + numpy.float32(1)
    return torch.from_numpy(unit.reshape(shape))


def split_halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows whose pairs are neighbours, as rows whose pairs are halves."""
    return rows.reshape(heads, HEAD_DIM // 2, 2, -1).transpose(1, 2).reshape(rows.shape)


def common(prefix: str, layer: int) -> dict[str, torch.Tensor]:
    """What most families call alike."""
    blk, hf = f"blk.{layer}.", f"{prefix}.layers.{layer}."
    return {
        hf + "input_layernorm.weight": numbers(blk + "attn_norm.weight", (WIDTH,)),
        hf + "self_attn.q_proj.weight": numbers(blk + "attn_q.weight", (HEADS * HEAD_DIM, WIDTH)),
        hf + "self_attn.k_proj.weight": numbers(blk + "attn_k.weight", (KV_HEADS * HEAD_DIM, WIDTH)),
        hf + "self_attn.v_proj.weight": numbers(blk + "attn_v.weight", (KV_HEADS * HEAD_DIM, WIDTH)),
        hf + "self_attn.o_proj.weight": numbers(blk + "attn_output.weight", (WIDTH, HEADS * HEAD_DIM)),
        hf + "post_attention_layernorm.weight": numbers(blk + "ffn_norm.weight", (WIDTH,)),
        hf + "mlp.gate_proj.weight": numbers(blk + "ffn_gate.weight", (HIDDEN, WIDTH)),
        hf + "mlp.up_proj.weight": numbers(blk + "ffn_up.weight", (HIDDEN, WIDTH)),
        hf + "mlp.down_proj.weight": numbers(blk + "ffn_down.weight", (WIDTH, HIDDEN)),
    }


def head_norms(blk: str, hf: str) -> dict[str, torch.Tensor]:
    return {
        hf + "self_attn.q_norm.weight": numbers(blk + "attn_q_norm.weight", (HEAD_DIM,)),
        hf + "self_attn.k_norm.weight": numbers(blk + "attn_k_norm.weight", (HEAD_DIM,)),
    }


def drop(state: dict[str, torch.Tensor], *parts: str) -> None:
    for name in [name for name in state if any(part in name for part in parts)]:
        del state[name]


def weights(family: str) -> dict[str, torch.Tensor]:
    """The state of the model in the names that `transformers` uses."""
    state = {
        "model.embed_tokens.weight": numbers("token_embd.weight", (VOCAB, WIDTH)),
        "model.norm.weight": numbers("output_norm.weight", (WIDTH,)),
    }
    if not family.startswith("gemma"):
        state["lm_head.weight"] = numbers("output.weight", (VOCAB, WIDTH))
    for layer in range(LAYERS):
        blk, hf = f"blk.{layer}.", f"model.layers.{layer}."
        part = common("model", layer)
        if family == "llama":
            for kind, heads in (("q", HEADS), ("k", KV_HEADS)):
                name = hf + f"self_attn.{kind}_proj.weight"
                part[name] = split_halves(part[name], heads)
        if family in ("qwen2", "gpt-oss"):
            for kind, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
                part[hf + f"self_attn.{kind}_proj.bias"] = numbers(blk + f"attn_{kind}.bias", (heads * HEAD_DIM,))
        if family in ("qwen3", "qwen3moe", "gemma3"):
            part |= head_norms(blk, hf)
        if family == "qwen3moe":
            drop(part, "mlp.")
            gate = numbers(blk + "ffn_gate_exps.weight", (EXPERTS, HIDDEN, WIDTH))
            up = numbers(blk + "ffn_up_exps.weight", (EXPERTS, HIDDEN, WIDTH))
            part[hf + "mlp.gate.weight"] = numbers(blk + "ffn_gate_inp.weight", (EXPERTS, WIDTH))
            part[hf + "mlp.experts.gate_up_proj"] = torch.cat([gate, up], 1)
            part[hf + "mlp.experts.down_proj"] = numbers(blk + "ffn_down_exps.weight", (EXPERTS, WIDTH, HIDDEN))
        if family in ("gemma2", "gemma3"):
            part[hf + "post_attention_layernorm.weight"] = numbers(blk + "post_attention_norm.weight", (WIDTH,))
            part[hf + "pre_feedforward_layernorm.weight"] = numbers(blk + "ffn_norm.weight", (WIDTH,))
            part[hf + "post_feedforward_layernorm.weight"] = numbers(blk + "post_ffw_norm.weight", (WIDTH,))
        if family == "phi3":
            drop(part, "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
            rows = (HEADS + 2 * KV_HEADS) * HEAD_DIM
            part[hf + "self_attn.qkv_proj.weight"] = numbers(blk + "attn_qkv.weight", (rows, WIDTH))
            part[hf + "mlp.gate_up_proj.weight"] = numbers(blk + "ffn_up.weight", (2 * HIDDEN, WIDTH))
        if family == "gpt-oss":
            drop(part, "mlp.", "post_attention_layernorm")
            part[hf + "post_attention_layernorm.weight"] = numbers(blk + "post_attention_norm.weight", (WIDTH,))
            part[hf + "self_attn.o_proj.bias"] = numbers(blk + "attn_output.bias", (WIDTH,))
            part[hf + "self_attn.sinks"] = numbers(blk + "attn_sinks.weight", (HEADS,))
            part[hf + "mlp.router.weight"] = numbers(blk + "ffn_gate_inp.weight", (EXPERTS, WIDTH))
            part[hf + "mlp.router.bias"] = numbers(blk + "ffn_gate_inp.bias", (EXPERTS,))
            gate = numbers(blk + "ffn_gate_exps.weight", (EXPERTS, HIDDEN, WIDTH))
            up = numbers(blk + "ffn_up_exps.weight", (EXPERTS, HIDDEN, WIDTH))
            both = torch.stack([gate, up], 2).reshape(EXPERTS, 2 * HIDDEN, WIDTH)
            part[hf + "mlp.experts.gate_up_proj"] = both.transpose(1, 2).contiguous()
            gate = numbers(blk + "ffn_gate_exps.bias", (EXPERTS, HIDDEN))
            up = numbers(blk + "ffn_up_exps.bias", (EXPERTS, HIDDEN))
            part[hf + "mlp.experts.gate_up_proj_bias"] = torch.stack([gate, up], 2).reshape(EXPERTS, 2 * HIDDEN)
            down = numbers(blk + "ffn_down_exps.weight", (EXPERTS, WIDTH, HIDDEN))
            part[hf + "mlp.experts.down_proj"] = down.transpose(1, 2).contiguous()
            part[hf + "mlp.experts.down_proj_bias"] = numbers(blk + "ffn_down_exps.bias", (EXPERTS, WIDTH))
        state |= part
    if family.startswith("gemma"):
        # A file holds what the norms multiply with, the library what that is above one.
        state |= {name: value - 1 for name, value in state.items() if "norm" in name}
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    return state


SHAPE = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": HIDDEN,
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "attn_implementation": "eager",
    "pad_token_id": 0,
}
THETA = {"rope_type": "default", "rope_theta": 10000.0}


def config(family: str):
    """The configuration: `transformers`' name for what the file's metadata says."""
    local_even = ["sliding_attention", "full_attention"]
    match family:
        case "llama":
            return transformers.LlamaConfig(**SHAPE, rope_parameters=THETA, tie_word_embeddings=False)
        case "qwen2":
            return transformers.Qwen2Config(**SHAPE, rope_parameters=THETA, tie_word_embeddings=False)
        case "qwen3":
            return transformers.Qwen3Config(**SHAPE, rope_parameters=THETA, tie_word_embeddings=False)
        case "qwen3moe":
            return transformers.Qwen3MoeConfig(
                **SHAPE, rope_parameters=THETA, tie_word_embeddings=False, num_experts=EXPERTS,
                num_experts_per_tok=USED, moe_intermediate_size=HIDDEN, norm_topk_prob=True, decoder_sparse_step=1,
            )
        case "gemma2":
            return transformers.Gemma2Config(
                **SHAPE, rope_parameters=THETA, sliding_window=WINDOW, query_pre_attn_scalar=HEAD_DIM,
                attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
                layer_types=[local_even[layer % 2] for layer in range(LAYERS)],
            )
        case "gemma3":
            kinds = ["full_attention" if (layer + 1) % 6 == 0 else "sliding_attention" for layer in range(LAYERS)]
            linear = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
            return transformers.Gemma3TextConfig(
                **SHAPE, sliding_window=WINDOW, query_pre_attn_scalar=HEAD_DIM, layer_types=kinds,
                rope_parameters={"full_attention": linear, "sliding_attention": THETA},
            )
        case "phi3":
            return transformers.Phi3Config(
                **SHAPE, rope_parameters=THETA, tie_word_embeddings=False, sliding_window=WINDOW,
                original_max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2,
            )
        case "gpt-oss":
            yarn = {
                "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                "original_max_position_embeddings": 4096, "rope_theta": 150000.0,
            }
            return transformers.GptOssConfig(
                **SHAPE, rope_parameters=yarn, tie_word_embeddings=False, num_local_experts=EXPERTS,
                num_experts_per_tok=USED, sliding_window=WINDOW,
                layer_types=[local_even[layer % 2] for layer in range(LAYERS)],
            )


def main() -> None:
    lines = []
    for family in ("llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt-oss"):
        model = transformers.AutoModelForCausalLM.from_config(config(family), dtype=torch.float32).eval()
        model.load_state_dict(weights(family), strict=True)
        with torch.no_grad():
            logits = model(torch.tensor([TOKENS])).logits[0]
        lines.append(f"family {family}")
        lines.append("tokens " + " ".join(map(str, TOKENS)))
        for row in (len(TOKENS) - 1, MIDDLE):
            lines.append(f"logits {row} " + " ".join(f"{value:.6f}" for value in logits[row].tolist()))
        print(family, float(logits.abs().max()))
    pathlib.Path(__file__).with_name("families.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
