"""Splitting rules, against the regular expressions that they stand for."""

import pytest

import rules


@pytest.mark.parametrize("rule", rules.RULES)
def test_pieces_are_those_of_the_expressions(tokenize, texts, rule):
    reference = rules.splitter(rule)
    ours = tokenize.split(rule, texts)
    for text, pieces in zip(texts, ours, strict=True):
        expected = [piece for piece, _ in reference.pre_tokenize_str(text)]
        assert pieces == expected, f"{rule} of {text!r}"
