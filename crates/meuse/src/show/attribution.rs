//! A text with its tokens shaded by what they contribute to a prediction.

use std::ops::Range;

use super::{Output, Style};

/// What one token contributes.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenShare {
    /// Bytes of the token in the text.
    pub span: Range<usize>,
    /// Its attribution: above 0 speaks for the label, below 0 against it.
    pub value: f64,
}

/// Background colours of the 256-colour palette, from weak to strong.
const FOR: [u8; 5] = [224, 217, 210, 203, 196];
const AGAINST: [u8; 5] = [189, 153, 111, 75, 33];
/// Tokens named under the text.
const STRONGEST: usize = 6;
/// Characters of the longest bar.
const BAR_WIDTH: f64 = 20.0;

/// The text, a legend, and the strongest tokens with their figures. Without colours tokens carry `+` and
/// `-` signs instead.
pub fn attribution_lines(output: &Output, text: &str, shares: &[TokenShare], label: &str) -> Vec<String> {
    let largest = shares.iter().map(|s| s.value.abs()).fold(0.0, f64::max);
    let mut lines = vec![format!("  {}", shaded(output, text, shares, largest)), String::new()];
    lines.push(format!("  {}", legend(output, label)));
    let mut order: Vec<&TokenShare> = shares.iter().filter(|s| s.value != 0.0).collect();
    order.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()).then(a.span.start.cmp(&b.span.start)));
    let shown = &order[..order.len().min(STRONGEST)];
    let token = |s: &TokenShare| text.get(s.span.clone()).unwrap_or("").to_owned();
    let width = shown.iter().map(|s| token(s).chars().count()).max().unwrap_or(0);
    for share in shown {
        let word = token(share);
        let blanks = " ".repeat(width - word.chars().count());
        let length =
            if largest > 0.0 { (share.value.abs() / largest * BAR_WIDTH).round() as usize } else { 0 };
        let bar = tint(
            output,
            share.value,
            largest,
            &" ".repeat(length.max(1)),
            if share.value > 0.0 { '+' } else { '-' },
        );
        lines.push(format!("  {word}{blanks}  {:>+8.4}  {bar}", share.value));
    }
    lines
}

fn shaded(output: &Output, text: &str, shares: &[TokenShare], largest: f64) -> String {
    let mut line = String::new();
    let mut at = 0;
    for share in shares {
        let (Some(between), Some(token)) = (text.get(at..share.span.start), text.get(share.span.clone()))
        else {
            continue;
        };
        line.push_str(between);
        at = share.span.end;
        match (output.color(), level(share.value, largest)) {
            (_, None) => line.push_str(token),
            (true, Some(_)) => line.push_str(&background(share.value, largest, token)),
            (false, Some(level)) => {
                let sign = if share.value > 0.0 { "+" } else { "-" };
                line.push_str(&format!("{token}[{}]", sign.repeat(level / 2 + 1)));
            }
        }
    }
    line.push_str(text.get(at..).unwrap_or(""));
    line
}

fn legend(output: &Output, label: &str) -> String {
    if output.color() {
        let scale =
            |colors: &[u8]| colors.iter().map(|c| format!("\x1b[48;5;{c}m \x1b[0m")).collect::<String>();
        let against: Vec<u8> = AGAINST.iter().rev().copied().collect();
        format!("against {label} {}{} for {label}", scale(&against), scale(&FOR))
    } else {
        output
            .style(Style::Faint, &format!("[+] speaks for {label}, [-] against it; more signs, more weight"))
    }
}

/// How strong, from 0 to 4; `None` when too weak to show.
fn level(value: f64, largest: f64) -> Option<usize> {
    let share = value.abs() / largest;
    (largest > 0.0 && share >= 0.05).then(|| ((share * 5.0) as usize).min(4))
}

fn background(value: f64, largest: f64, text: &str) -> String {
    let Some(level) = level(value, largest) else { return text.to_owned() };
    let color = if value > 0.0 { FOR[level] } else { AGAINST[level] };
    format!("\x1b[48;5;{color};38;5;16m{text}\x1b[0m")
}

/// A bar: coloured blanks, or `sign` in their place.
fn tint(output: &Output, value: f64, largest: f64, blanks: &str, sign: char) -> String {
    if output.color() { background(value, largest, blanks) } else { blanks.replace(' ', &sign.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_signs_stand_for_shades() {
        let output = Output::detect(true);
        let shares = [
            TokenShare { span: 0..3, value: 0.5 },
            TokenShare { span: 4..7, value: -0.1 },
            TokenShare { span: 8..9, value: 0.0 },
        ];
        let lines = attribution_lines(&output, "cat dog a!", &shares, "animal");
        assert_eq!(lines[0], "  cat[+++] dog[-] a!");
        assert!(lines[3].starts_with("  cat   +0.5000  ++++"));
    }
}
