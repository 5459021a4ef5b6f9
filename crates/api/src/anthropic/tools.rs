//! Tools as messages name them.

use serde_json::Value;

use super::content::cache_control;
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::{Choice, Tool, Tools};

/// Reads `tools` and `tool_choice`.
pub(super) fn read(fields: &mut Fields) -> Result<Tools, Fault> {
    let items = fields.list("tools")?.unwrap_or_default();
    let tool = |(i, item)| tool(item, &format!("tools[{i}]"));
    let tools = items.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?;
    let (choice, parallel) = choice(fields)?;
    Tools::new(tools, choice, parallel, "tool_choice")
}

fn tool(item: Value, path: &str) -> Result<Tool, Fault> {
    let mut fields = Fields::of(item, path)?;
    if let Some(kind) = fields.text("type")?.filter(|kind| kind != "custom") {
        let message = format!("is {kind:?}; only \"custom\" tools are served: none run here");
        return Err(unsupported(fields.path("type"), message));
    }
    if fields.peek("input_schema").is_none() {
        return Err(fields.missing("input_schema"));
    }
    let tool = Tool::read(&mut fields, "input_schema")?;
    cache_control(&mut fields)?;
    // A call is streamed in one piece when it is whole, which either value allows.
    fields.flag("eager_input_streaming")?;
    fields.only("defer_loading", |value| *value == Value::Bool(false), "is not served: leave it out")?;
    fields.finish()?;
    Ok(tool)
}

fn choice(fields: &mut Fields) -> Result<(Choice, bool), Fault> {
    let Some(mut choice) = fields.object("tool_choice")? else { return Ok((Choice::Auto, true)) };
    let kind = choice.needed_text("type")?;
    let wanted = match kind.as_str() {
        "auto" => Choice::Auto,
        "any" => Choice::Required,
        "tool" => Choice::OneOf(vec![choice.needed_text("name")?]),
        "none" => Choice::None,
        _ => {
            let known = "must be \"auto\", \"any\", \"tool\" or \"none\"";
            return Err(invalid(choice.path("type"), known));
        }
    };
    let alone = choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
    choice.finish()?;
    Ok((wanted, !alone))
}
