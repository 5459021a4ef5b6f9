#!/usr/bin/env python3
"""Writes reference.json: what independent implementations make of some texts.

    pip install torch sentence-transformers
    python tests/models/fetch.py minilm
    python tests/embeddings/reference.py

The vectors of all-MiniLM-L6-v2 are those of `sentence-transformers`, the scores of the small cross-encoder (tiny.py)
those of `transformers`, both in 32-bit floats.
"""

import json
import pathlib
import tempfile

import tiny
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
MINILM = HERE.parents[1] / "target" / "models" / "all-MiniLM-L6-v2"
TEXTS = [
    "Hello",
    "The Meuse rises in France, crosses Belgium and ends in the Netherlands.",
    "What is the capital of the Netherlands?",
    "Die Maas entspringt in Frankreich und mündet in die Nordsee.",
    "Les rivières changent de nom aux frontières, pas d'eau.",
    "默兹河流经法国、比利时和荷兰。",
    "Река Маас; ποταμός Μεύσης; نهر الموز",
    "e\u0301cole ÉCOLE école — “quotes”, (brackets) & 1,234.5 €! \U0001f30a",
    "    white \t space \n everywhere   ",
    "antidisestablishmentarianism " * 12,
    "A river is a natural stream of fresh water that flows on land towards another body of water. " * 11,
]
PAIRS = [
    ("the river", ["the water flows.", "a stone", "the the the", "Zzz unknown 水 words"]),
    ("where does water go", ["river", "the river flows . the stone is where it was", "w"]),
]


def main() -> None:
    model = SentenceTransformer(str(MINILM))
    tokens = [len(model.tokenizer(text)["input_ids"]) for text in TEXTS]
    # What is longer is cut silently.
    assert max(tokens) <= model.max_seq_length, tokens
    vectors = model.encode(TEXTS, batch_size=1)
    with tempfile.TemporaryDirectory() as aside:
        tiny.write(pathlib.Path(aside))
        judge = BertForSequenceClassification.from_pretrained(aside, num_labels=1).eval()
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{aside}/tokenizer.json")
    rankings = []
    for query, documents in PAIRS:
        scores = []
        for document in documents:
            encoded = tokenizer(query, document, return_tensors="pt", return_token_type_ids=True)
            assert encoded["token_type_ids"].max() == 1
            with torch.no_grad():
                scores.append(float(judge(**encoded).logits.sigmoid()))
        rankings.append({"query": query, "documents": documents, "scores": [round(score, 7) for score in scores]})
    rounded = [[round(float(number), 5) for number in vector] for vector in vectors]
    texts = [{"text": text, "tokens": count, "vector": vector} for text, count, vector in zip(TEXTS, tokens, rounded)]
    lines = ",\n".join(json.dumps(entry) for entry in texts)
    (HERE / "reference.json").write_text(f'{{"texts": [\n{lines}\n],\n"rankings": {json.dumps(rankings)}}}\n')


if __name__ == "__main__":
    main()
