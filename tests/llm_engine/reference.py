#!/usr/bin/env python3
"""Writes reference.txt: what an independent implementation says of the two model files.

    pip install torch transformers gguf accelerate
    python tests/models/fetch.py smollm2-135m qwen2.5-coder-0.5b
    python tests/llm_engine/reference.py

The weights are dequantised by the `gguf` package and computed in 32-bit floats by `transformers`. One line a
value: `file F`, then for each continuation `prompt ids`, `tokens ids` and `margins` (the distance between the best and
the second-best logit at each step), then `text ids` and `likelihood`, the mean negative log-likelihood of each of the
text's tokens after the first. crates/llm/tests/models/reference.rs compares the engine with it.
"""

import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": [
        "The capital of France is",
        "Once upon a time, in a village by the river,",
        "def fibonacci(n):\n",
        "Water boils at a lower temperature on mountains because",
    ],
    "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf": [
        "The capital of France is",
        "def quicksort(items):\n    ",
        "fn main() {\n    let mut total = 0;\n",
    ],
}
TOKENS = 200
TEXT_TOKENS = 1024


def text() -> str:
    """English prose that is in the repository."""
    return (ROOT / "LICENSE").read_text()


def greedy(model, prompt: list[int]) -> dict:
    """A continuation, and how clear each choice was."""
    tokens, margins = list(prompt), []
    with torch.no_grad():
        out = model(torch.tensor([tokens]), use_cache=True)
        for _ in range(TOKENS):
            best = torch.topk(out.logits[0, -1].float(), 2)
            margins.append(round(float(best.values[0] - best.values[1]), 4))
            tokens.append(int(best.indices[0]))
            out = model(torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    return {"prompt": prompt, "tokens": tokens[len(prompt):], "margins": margins}


def likelihood(model, tokens: list[int]) -> float:
    """Mean negative log-likelihood of each token after the first, in nats."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:])))


def line(word: str, values: list) -> str:
    return " ".join([word, *map(str, values)])


def main() -> None:
    lines = []
    for file, prompts in MODELS.items():
        folder = str(ROOT / "target/models")
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
        lines.append(line("file", [file]))
        for prompt in prompts:
            found = greedy(model, tokenizer(prompt, add_special_tokens=False).input_ids)
            lines += [line(word, found[word]) for word in ("prompt", "tokens", "margins")]
        tokens = tokenizer(text(), add_special_tokens=False).input_ids[:TEXT_TOKENS]
        lines += [line("text", tokens), line("likelihood", [likelihood(model, tokens)])]
    pathlib.Path(__file__).with_name("reference.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
