//! [`About`]: what a model file says of its model, for people.

use formats::gguf::Gguf;

/// What a model file says of its model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The family, such as `llama`.
    pub architecture: String,
    /// Numbers that were learnt.
    pub parameters: u64,
    /// How most of them are stored, by the name that people give the file: `Q4_K_M`. Empty where it does not say.
    pub quantization: &'static str,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl About {
    /// What `gguf` says.
    pub(super) fn of(gguf: &Gguf) -> About {
        let elements =
            |tensor: formats::TensorView<'_>| tensor.shape.iter().map(|&n| n as u64).product::<u64>();
        // Said for people alone: what cannot be read is not said.
        let kind = gguf.metadata().u32("general.file_type").ok().flatten();
        About {
            architecture: gguf.architecture().to_owned(),
            parameters: gguf.tensors().map(elements).sum(),
            quantization: kind.map_or("", quantization),
            bytes: gguf.tensor_bytes(),
        }
    }
}

/// The names of `general.file_type`, as llama.cpp gives them.
fn quantization(kind: u32) -> &'static str {
    match kind {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4",
        _ => "",
    }
}
