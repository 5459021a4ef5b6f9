"""A small cross-encoder with made-up weights: every number follows from its tensor's name."""

import json
import pathlib
import struct

WIDTH, HEADS, HIDDEN, LAYERS, POSITIONS = 32, 4, 48, 2, 40
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = MARKS + ["the", "river", "flows", "stone", "water", ".", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
CONFIG = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu",
    "hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS,
    "max_position_embeddings": POSITIONS, "vocab_size": len(WORDS), "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "pad_token_id": 0,
}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {"id": i, "content": mark, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for i, mark in enumerate(MARKS)
    ],
    "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {word: i for i, word in enumerate(WORDS)},
    },
}


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors."""
    named = {
        "bert.embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "bert.embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": (2, WIDTH),
        "bert.pooler.dense.weight": (WIDTH, WIDTH),
        "bert.pooler.dense.bias": (WIDTH,),
        "classifier.weight": (1, WIDTH),
        "classifier.bias": (1,),
    }
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"bert.encoder.layer.{layer}."
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
        dense = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (HIDDEN, WIDTH), "output.dense": (WIDTH, HIDDEN)}
        for part, shape in dense.items():
            named |= {f"{at}{part}.weight": shape, f"{at}{part}.bias": shape[:1]}
    return named | {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}


def numbers(name: str, count: int) -> list[float]:
    """Between -0.25 and 0.25, of norms around one."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    made = []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        made.append(((state >> 40) / 2**24 - 0.5) / 2 + (1.0 if name.endswith("LayerNorm.weight") else 0.0))
    return made


def write(directory: pathlib.Path) -> pathlib.Path:
    """Makes the model's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    head, data = {}, b""
    for name, shape in shapes().items():
        count = 1
        for size in shape:
            count *= size
        packed = struct.pack(f"<{count}f", *numbers(name, count))
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    written = json.dumps(head).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(written)) + written + data)
    return directory
