"""Independent tokenizers, made of the vocabularies that model files carry."""

import pathlib

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import rules

CONTROL, USER_DEFINED = 3, 4


class Vocabulary:
    """What a GGUF file says of its tokenizer."""

    def __init__(self, path: pathlib.Path):
        fields = gguf.GGUFReader(path).fields
        self.rule = fields["tokenizer.ggml.pre"].contents()
        self.tokens = fields["tokenizer.ggml.tokens"].contents()
        self.merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
        self.types = fields["tokenizer.ggml.token_type"].contents()

    def missing(self) -> list[str]:
        """ASCII characters without a token."""
        tokens = set(self.tokens)
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [chr(byte) for byte in range(0x80) if letters.pre_tokenize_str(chr(byte))[0][0] not in tokens]

    def ids(self, kind: int) -> list[int]:
        """Tokens of a type."""
        return [id for id, found in enumerate(self.types) if found == kind]


def bpe(vocabulary: Vocabulary, rule: str, whole: bool, controls: bool) -> Tokenizer:
    """A byte-pair tokenizer; `controls`: whether spellings of control tokens are those tokens."""
    ids = {token: id for id, token in enumerate(vocabulary.tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=vocabulary.merges, ignore_merges=whole))
    bytes_as_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([rules.splitter(rule), bytes_as_letters])
    tokenizer.decoder = decoders.ByteLevel()
    kept = [AddedToken(vocabulary.tokens[id], normalized=False) for id in vocabulary.ids(USER_DEFINED)]
    tokenizer.add_tokens(kept)
    if controls:
        special = [AddedToken(vocabulary.tokens[id], normalized=False) for id in vocabulary.ids(CONTROL)]
        tokenizer.add_special_tokens(special)
    return tokenizer


def pieces(model: bytes) -> list:
    """The vocabulary of a SentencePiece model."""
    return list(sentencepiece_model_pb2.ModelProto.FromString(model).pieces)


def write_spm(model: bytes, path: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
    """Writes a SentencePiece model's vocabulary as converters do, and gives the processor to compare with."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    kinds = [piece.type for piece in proto.pieces]
    # Converters undo the escape of spaces in pieces that are never cut.
    texts = [
        piece.piece.replace("▁", " ") if piece.type == USER_DEFINED else piece.piece for piece in proto.pieces
    ]
    writer.add_token_list(texts)
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return processor


def write_wordpiece(tokens: list[str], path: pathlib.Path) -> None:
    """Writes BERT's vocabulary as converters do: `▁` before what begins a word, nothing before what goes on."""

    def text(token: str) -> str:
        if token.startswith("[") and token.endswith("]"):
            return token
        return token[2:] if token.startswith("##") else "▁" + token

    writer = gguf.GGUFWriter(path, "bert")
    writer.add_tokenizer_model("bert")
    writer.add_token_list([text(token) for token in tokens])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    writer.add_token_types([CONTROL if token in special else 1 for token in tokens])
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
