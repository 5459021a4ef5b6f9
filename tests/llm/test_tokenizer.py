"""Tokenizers, against independent ones made of the same vocabularies: every text's tokens, and back again."""

import random

import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

import corpus
import reference
import rules

# Rules under which a piece that is a token is taken whole.
WHOLE = {"llama-bpe", "tekken"}


@pytest.fixture(scope="module", params=["smollm", "qwen"])
def real(request):
    """A model file and its vocabulary."""
    path = request.getfixturevalue(request.param)
    return path, reference.Vocabulary(path)


@pytest.fixture(scope="module")
def vocabulary(smollm) -> reference.Vocabulary:
    return reference.Vocabulary(smollm)


def check(texts: list[str], ours: list[list[int]], theirs) -> None:
    """Every text's tokens are the same."""
    for text, ids in zip(texts, ours, strict=True):
        expected = theirs(text)
        assert ids == expected, f"{text!r}"


def test_what_users_write(tokenize, texts, real):
    path, vocabulary = real
    theirs = reference.bpe(vocabulary, vocabulary.rule, whole=False, controls=False)
    ours = tokenize.encode(path, texts)
    check(texts, ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)
    controls = set(vocabulary.ids(reference.CONTROL))
    assert not controls & {id for ids in ours for id in ids}
    # What has no token at all is left out, here and there.
    lost = str.maketrans("", "", "".join(vocabulary.missing()))
    assert tokenize.decode(path, ours) == [text.translate(lost) for text in texts]


def test_what_templates_write(tokenize, texts, real):
    path, vocabulary = real
    theirs = reference.bpe(vocabulary, vocabulary.rule, whole=False, controls=True)
    markers = [vocabulary.tokens[id] for id in vocabulary.ids(reference.CONTROL)]
    generator = random.Random(1)
    marked = [f"{generator.choice(markers)}{text}{generator.choice(markers)}" for text in texts]
    ours = tokenize.encode(path, marked, action="parse")
    check(marked, ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule(tokenize, texts, smollm, vocabulary, rule):
    theirs = reference.bpe(vocabulary, rule, whole=rule in WHOLE, controls=False)
    ours = tokenize.encode(smollm, texts, "--pre", rule)
    check(texts, ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)


def test_any_tokens_become_the_same_text(tokenize, real):
    path, vocabulary = real
    theirs = reference.bpe(vocabulary, vocabulary.rule, whole=False, controls=False)
    generator = random.Random(2)
    plain = [id for id, kind in enumerate(vocabulary.types) if kind == 1]
    ids = [[generator.choice(plain) for _ in range(generator.randrange(1, 30))] for _ in range(3000)]
    for line, text in zip(ids, tokenize.decode(path, ids), strict=True):
        assert text == theirs.decode(line, skip_special_tokens=False), line


def check_spm(tokenize, texts, path, processor) -> None:
    # A NUL ends the text in the other implementation's view of some things, and its normaliser drops it.
    texts = [text for text in texts if "\0" not in text]
    ours = tokenize.encode(path, texts)
    check(texts, ours, processor.encode)
    # To SentencePiece, that sign and a space are one.
    assert tokenize.decode(path, ours) == [text.replace("▁", " ") for text in texts]


def test_sentencepiece_of_llama(tokenize, texts, mistral, tmp_path):
    path = tmp_path / "spm.gguf"
    processor = reference.write_spm(mistral.read_bytes(), path)
    check_spm(tokenize, texts, path, processor)


def test_sentencepiece_of_gemma(tokenize, texts, tmp_path):
    """Gemma's settings: no space put before a text, digits apart, runs of spaces and newlines that are never cut."""
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("\n".join(line for text in corpus.SENTENCES for line in text[:500].splitlines()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(sentences),
        model_prefix=str(tmp_path / "trained"),
        model_type="bpe",
        vocab_size=1500,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n", "\n\n", "▁▁", "▁▁▁▁", "<h1>"],
        control_symbols=["<start_of_turn>", "<end_of_turn>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "spm.gguf"
    processor = reference.write_spm((tmp_path / "trained.model").read_bytes(), path)
    check_spm(tokenize, texts, path, processor)


@pytest.mark.parametrize("rule", ["smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "deepseek-v3"])
def test_byte_pairs_of_tokenizer_json(tokenize, texts, vocabulary, tmp_path, rule):
    """The rule is told from the expressions that the file writes out."""
    theirs = reference.bpe(vocabulary, rule, whole=rule in WHOLE, controls=True)
    if rules.RULES[rule][-1] == rules.GPT2:
        steps = [pre_tokenizers.Digits(individual_digits=True)] if rule == "smollm" else []
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
        theirs.pre_tokenizer = pre_tokenizers.Sequence(steps)
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    texts = texts[:1000]
    check(texts, tokenize.encode(path, texts, action="parse"), lambda text: theirs.encode(text).ids)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_of_tokenizer_json(tokenize, texts, mistral, tmp_path, prefix):
    """As converters write Llama's and Gemma's: merges in the order of the scores, bytes for what has no token."""
    pieces = reference.pieces(mistral.read_bytes())
    ids = {piece.piece: id for id, piece in enumerate(pieces)}
    merges = []
    for piece in sorted(pieces, key=lambda piece: -piece.score):
        splits = [(piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece))]
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]])) if piece.type == 1 else []
    theirs = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    theirs.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    theirs.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    theirs.add_special_tokens([AddedToken(name, normalized=False) for name in ("<unk>", "<s>", "</s>")])
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    texts = [text for text in texts if text and "▁" not in text]
    check(texts, tokenize.encode(path, texts, action="parse"), lambda text: theirs.encode(text).ids)


def test_wordpiece_of_tokenizer_json(tokenize, texts, minilm):
    theirs = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    ours = tokenize.encode(minilm / "tokenizer.json", texts, action="parse")
    check(texts, ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)


def test_wordpiece_of_bert(tokenize, texts, minilm, tmp_path):
    theirs = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    ids = theirs.get_vocab(with_added_tokens=True)
    path = tmp_path / "bert.gguf"
    reference.write_wordpiece(sorted(ids, key=ids.get), path)
    # There, a user can write a control token.
    texts = [text for text in texts if not any(name in text for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))]
    ours = tokenize.encode(path, texts)
    check(texts, ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)
