//! Tools as chat completions and responses name them.

use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::{Choice, Tool, Tools};

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`. In responses a function lies `flat` in its tool.
pub(super) fn read(fields: &mut Fields, flat: bool) -> Result<Tools, Fault> {
    let items = fields.list("tools")?.unwrap_or_default();
    let tool = |(i, item)| tool(item, &format!("tools[{i}]"), flat);
    let tools = items.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?;
    let choice = choice(fields, flat)?;
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Tools::new(tools, choice, parallel, "tool_choice")
}

fn tool(item: Value, path: &str, flat: bool) -> Result<Tool, Fault> {
    let mut outer = Fields::of(item, path)?;
    let kind = outer.needed_text("type")?;
    if kind != "function" {
        return Err(unsupported(format!("{path}.type"), "must be \"function\": other tools are not served"));
    }
    let mut function = if flat {
        outer
    } else {
        let function = outer.object("function")?.ok_or_else(|| outer.missing("function"))?;
        outer.finish()?;
        function
    };
    let tool = Tool::read(&mut function, "parameters")?;
    function.finish()?;
    Ok(tool)
}

fn choice(fields: &mut Fields, flat: bool) -> Result<Choice, Fault> {
    let path = fields.path("tool_choice");
    let known = "must be \"none\", \"auto\", \"required\" or name a function";
    match fields.take("tool_choice") {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Required),
            _ => Err(invalid(path, known)),
        },
        Some(value) => {
            let mut named = Fields::of(value, &path)?;
            if named.text("type")?.as_deref() != Some("function") {
                return Err(invalid(path, known));
            }
            let name = if flat {
                named.needed_text("name")?
            } else {
                let mut function = named.object("function")?.ok_or_else(|| named.missing("function"))?;
                let name = function.needed_text("name")?;
                function.finish()?;
                name
            };
            named.finish()?;
            Ok(Choice::OneOf(vec![name]))
        }
    }
}
