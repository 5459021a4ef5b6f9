//! Functions that the model may call: `tools` and `toolConfig`.

use serde_json::Value;

use super::form;
use super::wire::{camel, object, objects, word};
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::{Choice, Tool, Tools};

/// Modes of `functionCallingConfig`, by their numbers.
const MODES: [&str; 6] = ["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "", "VALIDATED"];
/// The field that says how functions are called.
const CONFIG: &str = "toolConfig.functionCallingConfig";

/// Reads `tools` and `toolConfig`.
pub(super) fn read(fields: &mut Fields) -> Result<Tools, Fault> {
    let mut tools = Vec::new();
    for mut tool in objects(fields, "tools")? {
        let path = tool.path("functionDeclarations");
        for (i, declaration) in tool.list("functionDeclarations")?.unwrap_or_default().into_iter().enumerate()
        {
            tools.push(declared(declaration, &format!("{path}[{i}]"))?);
        }
        tool.finish()?;
    }
    let choice = choice(fields)?;
    Tools::new(tools, choice, true, CONFIG)
}

fn declared(declaration: Value, path: &str) -> Result<Tool, Fault> {
    let mut fields = camel(Fields::of(declaration, path)?);
    let parameters = schema(&mut fields, "parameters", "parametersJsonSchema")?;
    let returns = schema(&mut fields, "response", "responseJsonSchema")?;
    let tool = Tool::taking(parameters, &mut fields)?;
    fields.finish()?;
    Ok(match returns {
        Some(returns) => tool.returning(returns),
        None => tool,
    })
}

/// A schema in the API's own words, or in JSON schema's under another name.
fn schema(fields: &mut Fields, own: &str, json: &str) -> Result<Option<Value>, Fault> {
    let (of_own, of_json) = (fields.path(own), fields.path(json));
    match (fields.take(own), fields.take(json)) {
        (Some(_), Some(_)) => Err(invalid(of_json, format!("and `{own}` are the same: give one of them"))),
        (Some(schema), None) => form::json_schema(schema, &of_own).map(Some),
        (None, Some(schema)) if !schema.is_object() => {
            Err(invalid(of_json, "must be an object: a JSON schema"))
        }
        (None, schema) => Ok(schema),
    }
}

fn choice(fields: &mut Fields) -> Result<Choice, Fault> {
    let Some(mut outer) = object(fields, "toolConfig")? else { return Ok(Choice::Auto) };
    let config = object(&mut outer, "functionCallingConfig")?;
    outer.finish()?;
    let Some(mut config) = config else { return Ok(Choice::Auto) };
    let mode = word(&mut config, "mode", &MODES)?.unwrap_or_default();
    let path = config.path("allowedFunctionNames");
    let names = config.list("allowedFunctionNames")?.unwrap_or_default();
    let text = |name: Value| name.as_str().map(str::to_owned);
    let names: Option<Vec<String>> = names.into_iter().map(text).collect();
    let names = names.ok_or_else(|| invalid(path.clone(), "must be a list of strings"))?;
    config.finish()?;
    match mode.as_str() {
        _ if !names.is_empty() && mode != "ANY" => Err(invalid(path, "needs the mode \"ANY\"")),
        "" | "MODE_UNSPECIFIED" | "AUTO" => Ok(Choice::Auto),
        "NONE" => Ok(Choice::None),
        "ANY" if names.is_empty() => Ok(Choice::Required),
        "ANY" => Ok(Choice::OneOf(names)),
        _ => Err(unsupported(format!("{CONFIG}.mode"), "must be \"AUTO\", \"ANY\" or \"NONE\"")),
    }
}
