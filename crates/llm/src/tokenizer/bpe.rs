//! [`Bpe`]: byte-pair encoding over bytes, after GPT-2.

use std::collections::HashMap;

use formats::tokenizer::{TokenKind, TokenizerSpec};

use super::pairs::Pairs;
use super::tokens::Tokens;
use super::{PreTokenizer, TokenizerError};

/// Two tokens, to the place of their merge in the list and the token that they become.
type Merges = HashMap<(u32, u32), (u32, u32)>;

/// Merges bytes to tokens within the pieces that a rule cuts.
#[derive(Debug)]
pub(super) struct Bpe {
    rule: PreTokenizer,
    /// The token of each byte alone.
    bytes: Box<[Option<u32>; 256]>,
    merges: Merges,
    /// Tokens by their bytes, where a piece that is a token is taken whole.
    whole: Option<HashMap<Box<[u8]>, u32>>,
}

impl Bpe {
    pub(super) fn new(
        rule: PreTokenizer,
        merges: &[(String, String)],
        whole: bool,
        tokens: &Tokens,
        spec: &TokenizerSpec,
    ) -> Result<Bpe, TokenizerError> {
        let mergeable =
            tokens.iter().filter(|(_, kind, _)| matches!(kind, TokenKind::Normal | TokenKind::Unused));
        let whole = whole.then(|| mergeable.map(|(id, _, bytes)| (bytes.into(), id)).collect());
        Ok(Bpe { rule, bytes: bytes(tokens), merges: ranks(merges, tokens, spec)?, whole })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut pairs = Pairs::new();
        for piece in self.rule.split(text) {
            self.encode_piece(&text.as_bytes()[piece], &mut pairs, ids);
        }
    }

    fn encode_piece(&self, piece: &[u8], pairs: &mut Pairs<u32>, ids: &mut Vec<u32>) {
        if let Some(&id) = self.whole.as_ref().and_then(|whole| whole.get(piece)) {
            ids.push(id);
            return;
        }
        pairs.clear();
        let symbols = piece.iter().filter_map(|&byte| self.bytes[usize::from(byte)]);
        symbols.for_each(|id| pairs.push(id, 1));
        pairs.merge(|left, right, _| self.merges.get(&(left.id, right.id)).copied());
        ids.extend(pairs.symbols().map(|(symbol, _)| symbol.id));
    }
}

/// The token of each byte. Some vocabularies lack control characters; like the reference, these are then left out.
fn bytes(tokens: &Tokens) -> Box<[Option<u32>; 256]> {
    let mut bytes = Box::new([None; 256]);
    for (id, kind, text) in tokens.iter() {
        if let (TokenKind::Normal, &[byte]) = (kind, text) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    bytes
}

/// Merges by the identities of what they join; none makes a control token.
fn ranks(
    merges: &[(String, String)],
    tokens: &Tokens,
    spec: &TokenizerSpec,
) -> Result<Merges, TokenizerError> {
    let by_text: HashMap<&str, u32> =
        (0..).zip(&spec.tokens).map(|(id, token)| (token.text.as_str(), id)).collect();
    let mut ranks = HashMap::with_capacity(merges.len());
    let mut joint = String::new();
    for ((at, rank), (left, right)) in (0..).zip(0..).zip(merges) {
        let id = |text: &str| {
            let id = by_text.get(text).copied();
            id.ok_or_else(|| TokenizerError::Merge { at, text: text.to_owned() })
        };
        joint.clear();
        joint.push_str(left);
        joint.push_str(right);
        let joined = id(&joint)?;
        if !matches!(tokens.kind(joined), Some(TokenKind::Control | TokenKind::Unknown)) {
            ranks.entry((id(left)?, id(right)?)).or_insert((rank, joined));
        }
    }
    Ok(ranks)
}
