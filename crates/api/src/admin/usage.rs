//! `GET /admin/v1/usage`: what was used, in JSON or CSV.

use control::{ALL_PROJECTS, Amount, Day, Money, Report, ReportBy, ReportRow, Wanted};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::own_project;
use crate::Fault;
use crate::http::{Call, Response, Route, bytes_reply, json_reply};

/// What was used: `from` and `to` are days (this month), `by` what to tell apart (`project,key,model,day`), `project` a
/// project for keys of all of them, `format` `json` or `csv`.
pub(super) async fn usage(call: Call) -> Result<Response, Fault> {
    let today = Day::today();
    let (mut first, mut last, mut by, mut project, mut csv) =
        (today.month_begin(), today, Vec::new(), None, false);
    for (name, value) in call.query()? {
        match name.as_str() {
            "from" => first = value.parse::<Day>()?,
            "to" => last = value.parse::<Day>()?,
            "by" => {
                let parts = value.split(',').filter(|part| !part.is_empty());
                by = parts.map(str::parse::<ReportBy>).collect::<Result<_, _>>()?;
            }
            "project" => project = Some(value).filter(|project| !project.is_empty()),
            "format" => {
                csv = match value.as_str() {
                    "json" => false,
                    "csv" => true,
                    _ => return Err(Fault::invalid("`format` must be json or csv")),
                };
            }
            _ => {
                return Err(Fault::invalid("only `from`, `to`, `by`, `project` and `format` are known here"));
            }
        }
    }
    let own = own_project(&call);
    if own != ALL_PROJECTS {
        call.allow_name(&format!("projects/{}", project.as_deref().unwrap_or(own)))?;
        project = Some(own.to_owned());
    }
    let wanted = Wanted { first, last, project, by: by.clone() };
    let report = call.app.control.quotas().usage(wanted).await?;
    if csv {
        return Ok(bytes_reply(StatusCode::OK, "text/csv; charset=utf-8", in_csv(&report, &by)));
    }
    let rows: Vec<Value> = report.rows.iter().map(in_json).collect();
    json_reply(
        StatusCode::OK,
        &json!({
            "from": first.to_string(),
            "to": last.to_string(),
            "usage": rows,
            "total": figures(&report.total).into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
        }),
    )
}

/// `route`, known for the parameters that [`usage`] takes.
pub(super) fn described(route: Route) -> Route {
    route.takes_query(&["from", "to", "by", "project", "format"])
}

/// The figures of an amount with their names. Money is a text, so that nothing of it is lost.
fn figures(amount: &Amount) -> [(&'static str, Value); 7] {
    let Amount { requests, prompt_tokens, cached_tokens, output_tokens, rows, training_seconds, cost } =
        *amount;
    [
        ("requests", requests.into()),
        ("promptTokens", prompt_tokens.into()),
        ("cachedTokens", cached_tokens.into()),
        ("outputTokens", output_tokens.into()),
        ("rows", rows.into()),
        ("trainingSeconds", training_seconds.into()),
        ("cost", cost.to_string().into()),
    ]
}

/// What a row is told apart by, in the order of a report.
fn labels(row: &ReportRow) -> [(&'static str, Option<String>); 4] {
    [
        ("day", row.day.map(|day| day.to_string())),
        ("project", row.project.clone()),
        ("key", row.key.clone()),
        ("model", row.model.clone()),
    ]
}

fn in_json(row: &ReportRow) -> Value {
    let labels = labels(row).into_iter().filter_map(|(name, value)| Some((name, Value::from(value?))));
    let all = labels.chain(figures(&row.amount)).map(|(name, value)| (name.to_owned(), value));
    Value::Object(all.collect())
}

fn in_csv(report: &Report, by: &[ReportBy]) -> String {
    let head = ReportRow {
        day: by.contains(&ReportBy::Day).then_some(Day::MIN),
        project: by.contains(&ReportBy::Project).then(String::new),
        key: by.contains(&ReportBy::Key).then(String::new),
        model: by.contains(&ReportBy::Model).then(String::new),
        amount: Amount { cost: Money(0), ..Amount::default() },
    };
    let names = labels(&head).into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
    let names = names.chain(figures(&head.amount).into_iter().map(|(name, _)| name));
    let mut text = names.collect::<Vec<_>>().join(",");
    for row in &report.rows {
        let labels = labels(row).into_iter().filter_map(|(_, value)| value);
        let figures = figures(&row.amount).into_iter().map(|(_, value)| match value {
            Value::String(text) => text,
            number => number.to_string(),
        });
        let cells: Vec<String> = labels.map(|label| cell(&label)).chain(figures).collect();
        text.push('\n');
        text.push_str(&cells.join(","));
    }
    text.push('\n');
    text
}

/// A text as a cell: quoted where it must be, and never one that a spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table() {
        let row = |model: &str| ReportRow {
            day: None,
            project: None,
            key: Some(String::new()),
            model: Some(model.to_owned()),
            amount: Amount { requests: 2, cost: Money(1_500_000_000), ..Amount::default() },
        };
        let report = Report { rows: vec![row("a,\"b\""), row("=1+1")], total: Amount::default() };
        assert_eq!(
            in_csv(&report, &[ReportBy::Model, ReportBy::Key]),
            "key,model,requests,promptTokens,cachedTokens,outputTokens,rows,trainingSeconds,cost\n\
             ,\"a,\"\"b\"\"\",2,0,0,0,0,0,1.5\n,\"'=1+1\",2,0,0,0,0,0,1.5\n"
        );
        assert_eq!(in_json(&report.rows[0])["cost"], "1.5");
    }
}
