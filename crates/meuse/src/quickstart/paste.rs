//! What to paste elsewhere to use what the quickstart leaves.

use std::path::Path;

use super::language;
use super::tour::{NAME, QUESTION};
use crate::client::Client;
use crate::show::{Output, Style};

/// Lines for a shell and for Python, with this server's address and key; `speaks` is whether the language model
/// is there.
pub(super) fn lines(output: &Output, client: &Client, data_dir: &Path, speaks: bool) -> String {
    let (url, parent) = (client.url(), client.parent());
    let key_file = data_dir.join("admin.key");
    let key = client.key().unwrap_or_default();
    let head = |text: &str| output.style(Style::Strong, text);
    let data = if data_dir == Path::new(crate::data_dir::DEFAULT) {
        String::new()
    } else {
        format!(" --data-dir {}", data_dir.display())
    };
    let chat = if speaks { format!("\n  meuse chat {}{data}", language::NAME) } else { String::new() };
    format!(
        r#"
{curl}
  curl -s {url}/v1/{parent}/endpoints/{NAME}:predict \
    -H "Authorization: Bearer $(cat {key_file})" -H "Content-Type: application/json" \
    -d '{{"instances": ["{QUESTION}"]}}'

{python}  (pip install google-cloud-aiplatform)
  from google.cloud import aiplatform
  from google.oauth2.credentials import Credentials
  aiplatform.init(project="default", location="us-central1", api_endpoint="{url}", api_transport="rest",
                  credentials=Credentials(token="{key}"))
  endpoint = aiplatform.Endpoint("{NAME}")
  print(endpoint.predict(["{QUESTION}"]).predictions[0]["label"])

{shell}
  meuse explain {NAME} '{QUESTION}'{data}
  meuse models{data}{chat}
"#,
        curl = head("curl"),
        python = head("Python, Google's own library"),
        shell = head("Another terminal"),
        key_file = key_file.display(),
    )
}
