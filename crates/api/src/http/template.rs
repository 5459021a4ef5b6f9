//! [`Template`]: a path template in the language of `google.api.http`.

/// A path template such as `/v1/{name=projects/*/locations/*/models/*}:deleteVersion`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The parts between slashes.
    pub(super) segments: Vec<Segment>,
    /// What follows the last colon.
    pub(super) verb: Option<String>,
    /// The variables, in the order written.
    pub(super) variables: Vec<Variable>,
    /// Which segment holds the project, where one does.
    pub(super) project: Option<usize>,
}

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text.
    Literal(String),
    /// Any one segment.
    One,
    /// All that is left, at least one segment.
    Rest,
}

/// One part of a template as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// This text.
    Literal(&'a str),
    /// Whatever is called this; of the last part, with slashes where all that is left is taken.
    Open(&'a str),
}

/// A variable over some segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// The field that it fills; dots lead into messages.
    pub(super) field: String,
    /// The first segment.
    pub(super) start: usize,
    /// The segment after the last; [`usize::MAX`] when it takes the rest.
    pub(super) end: usize,
}

impl Template {
    /// Reads a template; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut template =
            Template { segments: Vec::new(), verb: None, variables: Vec::new(), project: None };
        let mut rest = text.strip_prefix('/')?;
        if rest.is_empty() {
            return Some(template);
        }
        loop {
            rest = match rest.strip_prefix('{') {
                Some(inner) => {
                    let (variable, after) = inner.split_once('}')?;
                    template.push_variable(variable);
                    after
                }
                None => {
                    let end = rest.find(['/', ':']).unwrap_or(rest.len());
                    template.push_segment(&rest[..end]);
                    &rest[end..]
                }
            };
            if let Some(verb) = rest.strip_prefix(':') {
                template.verb = Some(verb.to_owned());
                break;
            }
            match rest.strip_prefix('/') {
                Some(more) => rest = more,
                None if rest.is_empty() => break,
                None => return None,
            }
        }
        Some(template)
    }

    /// The fields that its variables fill, in order; dots lead into messages.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// Its parts as they are written, with a name for each that is open: the variable's own where it is all that the
    /// variable takes, else that of the noun before it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.segments.iter().enumerate().map(|(i, segment)| {
            let noun = i.checked_sub(1).and_then(|before| match &self.segments[before] {
                Segment::Literal(text) => Some(text.strip_suffix('s').unwrap_or(text)),
                Segment::One | Segment::Rest => None,
            });
            let within = self.variables.iter().find(|variable| (variable.start..variable.end).contains(&i));
            let alone = within.filter(|variable| {
                variable.start == i && (variable.end == i + 1 || variable.end == usize::MAX)
            });
            let name = alone.map(|variable| variable.field.as_str()).or(noun);
            match segment {
                Segment::Literal(text) => Part::Literal(text),
                Segment::One | Segment::Rest => Part::Open(name.unwrap_or("part")),
            }
        })
    }

    /// What follows the last colon.
    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    fn push_variable(&mut self, text: &str) {
        let (field, pattern) = text.split_once('=').unwrap_or((text, "*"));
        let start = self.segments.len();
        for part in pattern.split('/') {
            self.push_segment(part);
        }
        let open = self.segments.last() == Some(&Segment::Rest);
        let end = if open { usize::MAX } else { self.segments.len() };
        self.variables.push(Variable { field: field.to_owned(), start, end });
    }

    fn push_segment(&mut self, text: &str) {
        let segment = match text {
            "*" => Segment::One,
            "**" => Segment::Rest,
            literal => Segment::Literal(literal.to_owned()),
        };
        let after_projects = self.segments.last() == Some(&Segment::Literal("projects".to_owned()));
        if segment == Segment::One && after_projects && self.project.is_none() {
            self.project = Some(self.segments.len());
        }
        self.segments.push(segment);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_verbs_and_projects() {
        let t = Template::parse("/v1/{parent=projects/*/locations/*}/models:upload").unwrap();
        assert_eq!(t.segments.len(), 6);
        assert_eq!(t.verb.as_deref(), Some("upload"));
        assert_eq!(t.variables, [Variable { field: "parent".into(), start: 1, end: 5 }]);
        assert_eq!(t.project, Some(2));

        let t = Template::parse("/v1/{name=operations/**}:cancel").unwrap();
        assert_eq!(t.variables[0].end, usize::MAX);
        assert_eq!(t.verb.as_deref(), Some("cancel"));

        let t = Template::parse("/storage/v1/b/{bucket}/o").unwrap();
        assert_eq!(t.variables, [Variable { field: "bucket".into(), start: 3, end: 4 }]);
        assert!(Template::parse("no/slash").is_none());
    }
}
