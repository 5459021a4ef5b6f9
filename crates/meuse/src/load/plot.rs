//! [`plot`]: throughput and latency against the level, as a picture (SVG).

use std::fmt::Write;

use super::{Figures, Spread};

/// Sizes of the picture, in pixels.
const PANEL: (f64, f64) = (300.0, 220.0);
const LEFT: f64 = 64.0;
const TOP: f64 = 108.0;
const BETWEEN: f64 = 84.0;
const RIGHT: f64 = 28.0;
const BOTTOM: f64 = 64.0;

/// About so many lines mark the values of a panel.
const MARKS: f64 = 5.0;
/// Labels under a panel are not nearer to each other.
const LABEL_WIDTH: f64 = 30.0;

const BLUE: &str = "#1f5fbf";
const ORANGE: &str = "#d9730d";
const GREEN: &str = "#2a8f5a";

/// One line of a panel: its name, its colour, its value at each level.
struct Line {
    name: &'static str,
    colour: &'static str,
    values: Vec<Option<f64>>,
}

/// One panel: what its values are, and its lines.
struct Panel {
    title: &'static str,
    lines: Vec<Line>,
}

/// Draws `figures` under `title`: what a second brought, the time to the first token and the time between tokens.
pub fn plot(title: &str, subtitle: &str, figures: &[Figures]) -> String {
    let panels = panels(figures);
    let width = LEFT + panels.len() as f64 * (PANEL.0 + BETWEEN) - BETWEEN + RIGHT;
    let height = TOP + PANEL.1 + BOTTOM;
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\" fill=\"#1a1a1a\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"45\" fill=\"#666666\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
    );
    let unit = figures.first().map_or("", |f| f.level.unit());
    let axis = if unit == "rate" { "requests sent a second" } else { "requests under way" };
    for (nth, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, LEFT + nth as f64 * (PANEL.0 + BETWEEN), figures, axis);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panels(figures: &[Figures]) -> Vec<Panel> {
    let values = |of: &dyn Fn(&Figures) -> Option<f64>| figures.iter().map(of).collect::<Vec<_>>();
    let latency = |of: fn(&Figures) -> Option<Spread>| {
        vec![
            Line { name: "median", colour: BLUE, values: values(&|f| of(f).map(|s| s.p50)) },
            Line { name: "99 of 100", colour: ORANGE, values: values(&|f| of(f).map(|s| s.p99)) },
        ]
    };
    let tokens = Line {
        name: "tokens of answers",
        colour: BLUE,
        values: values(&|f| Some(f.output_tokens_per_second)),
    };
    let mut panels = vec![
        Panel { title: "Tokens of answers a second", lines: vec![tokens] },
        Panel { title: "Time to the first token, ms", lines: latency(|f| f.first_token_ms) },
        Panel { title: "Time between tokens, ms", lines: latency(|f| f.between_tokens_ms) },
    ];
    if figures.iter().any(|f| f.goodput.is_some()) {
        let all = Line { name: "all", colour: BLUE, values: values(&|f| Some(f.requests_per_second)) };
        let good = Line { name: "within the bound", colour: GREEN, values: values(&|f| f.goodput) };
        panels.push(Panel { title: "Answers a second", lines: vec![all, good] });
    }
    panels
}

impl Panel {
    fn draw(&self, svg: &mut String, left: f64, figures: &[Figures], axis: &str) {
        let (width, height) = PANEL;
        let bottom = TOP + height;
        let largest =
            self.lines.iter().flat_map(|l| l.values.iter().flatten()).fold(0.0, |a: f64, b| a.max(*b));
        let (step, top) = marks(largest);
        let y = |value: f64| bottom - value / top * height;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\" fill=\"#1a1a1a\">{}</text>",
            TOP - 28.0,
            self.title
        );
        self.legend(svg, left);
        for nth in 0..=(top / step).round() as usize {
            let value = nth as f64 * step;
            let colour = if nth == 0 { "#888888" } else { "#e4e4e4" };
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"{colour}\"/>\
                 <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#666666\">{4}</text>",
                left + width,
                y(value),
                left - 8.0,
                y(value) + 4.0,
                number(value, step),
            );
        }
        let places = places(figures, left, width);
        let mut free = f64::MIN;
        for (figures, x) in figures.iter().zip(&places) {
            if *x >= free {
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>",
                    bottom + 18.0,
                    figures.level
                );
                free = x + LABEL_WIDTH;
            }
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#1a1a1a\">{axis}</text>",
            left + width / 2.0,
            bottom + 40.0
        );
        for line in &self.lines {
            line.draw(svg, &places, y);
        }
    }

    /// Names the lines, where there are several.
    fn legend(&self, svg: &mut String, left: f64) {
        if self.lines.len() < 2 {
            return;
        }
        for (nth, line) in self.lines.iter().enumerate() {
            let x = left + nth as f64 * 110.0;
            let y = TOP - 12.0;
            let _ = writeln!(
                svg,
                "<line x1=\"{x}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\" stroke=\"{2}\" stroke-width=\"2.5\"/>\
                 <text x=\"{3}\" y=\"{4}\" fill=\"#444444\">{5}</text>",
                x + 18.0,
                y - 4.0,
                line.colour,
                x + 24.0,
                y,
                line.name
            );
        }
    }
}

impl Line {
    /// Draws the line through the levels that have a value, a dot at each.
    fn draw(&self, svg: &mut String, places: &[f64], y: impl Fn(f64) -> f64) {
        let points: Vec<(f64, f64)> = places
            .iter()
            .zip(&self.values)
            .filter_map(|(x, value)| value.map(|value| (*x, y(value))))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\" stroke-linejoin=\"round\"/>",
            path.join(" "),
            self.colour
        );
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{}\"/>", self.colour);
        }
    }
}

/// Where the levels stand: twice as much is always as far away. One alone stands in the middle.
fn places(figures: &[Figures], left: f64, width: f64) -> Vec<f64> {
    let logs: Vec<f64> = figures.iter().map(|f| f.level.number().ln()).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let span = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    let inset = 16.0;
    logs.iter()
        .map(|log| match span > 0.0 {
            true => left + inset + (log - least) / span * (width - 2.0 * inset),
            false => left + width / 2.0,
        })
        .collect()
}

/// The distance of round marks up to `largest`, and the last of them.
fn marks(largest: f64) -> (f64, f64) {
    if largest <= 0.0 || !largest.is_finite() {
        return (1.0, 1.0);
    }
    let rough = largest / MARKS;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    (step, (largest / step).ceil() * step)
}

/// `value` with as many places as marks `step` apart need.
fn number(value: f64, step: f64) -> String {
    let places = (0..6).find(|places| {
        let scaled = step * 10f64.powi(*places);
        (scaled - scaled.round()).abs() < 1e-6
    });
    let text = format!("{value:.*}", places.unwrap_or(6) as usize);
    match text.parse::<u64>() {
        Ok(whole) => crate::show::thousands(whole),
        Err(_) => text,
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        // XML has no way to write other control characters.
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Answered, Goal, Level, Troubles};
    use super::*;

    fn figures(level: Level, answers: usize, goal: Goal) -> Figures {
        let ms = Duration::from_millis;
        let answered = Answered {
            first_token: ms(120),
            between: ms(900),
            pause: ms(40),
            whole: ms(1020),
            prompt_tokens: 100,
            cached_tokens: 0,
            output_tokens: 31,
        };
        Figures::of(level, Duration::from_secs(3), &vec![answered; answers], Troubles::default(), 0, goal)
    }

    #[test]
    fn every_level_has_a_dot_in_every_line() {
        let all = [1, 2, 4].map(|c| figures(Level::Concurrency(c), 10, Goal::default()));
        let svg = plot("a <model> & more", "at an address", &all);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt;model&gt; &amp; more") && !svg.contains("<model>"));
        // One line of tokens, two of each latency.
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (5, 15));
        assert!(svg.contains("requests under way") && !svg.contains("Answers a second"));
    }

    #[test]
    fn a_level_without_answers_has_no_latency() {
        let goal = Goal { first_token: Some(Duration::from_millis(200)), between_tokens: None };
        let all = [figures(Level::Rate(0.5), 10, goal), figures(Level::Rate(8.0), 0, goal)];
        let svg = plot("m", "", &all);
        // Tokens, answers and good answers a second at both; four latencies at one.
        assert_eq!(svg.matches("<circle").count(), 3 * 2 + 4);
        assert!(svg.contains("requests sent a second") && svg.contains("Answers a second"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn marks_are_round_and_reach_the_largest() {
        assert_eq!(marks(0.0), (1.0, 1.0));
        assert_eq!(marks(48.0), (10.0, 50.0));
        assert_eq!(marks(1030.0), (250.0, 1250.0));
        assert_eq!(number(1500.0, 500.0), "1,500");
        assert_eq!(number(0.75, 0.25), "0.75");
    }
}
