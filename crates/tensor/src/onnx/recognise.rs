//! [`recognise`]: other formats than ONNX, by their first bytes.

use super::LoadError;

const REEXPORT_KERAS: &str = "re-export it with `model.export(\"model.onnx\", format=\"onnx\")`";
const REEXPORT_TORCH: &str = "re-export it with `torch.onnx.export(model, example, \"model.onnx\")`";
const REEXPORT_SKLEARN: &str = "pickles can run any code, so they are never loaded; \
     re-export the model as ONNX, for scikit-learn with `skl2onnx.to_onnx(model, example)`";
const UNPACK: &str = "upload the file within it";

/// Refuses what is recognisably something else, and says what to do.
pub(super) fn recognise(bytes: &[u8], file_name: &str) -> Result<(), LoadError> {
    let refuse = |found, advice| Err(LoadError::WrongFormat { found, advice });
    match bytes {
        [] => refuse("empty", "upload it again"),
        [b'P', b'K', 3, 4, ..] => refuse_zip(bytes),
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1A, b'\n', ..] => refuse("an HDF5 file", REEXPORT_KERAS),
        // The magic number that PyTorch pickles before everything else.
        [0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, ..] => refuse("a PyTorch file", REEXPORT_TORCH),
        [0x80, 2..=5, ..] => refuse("a Python pickle", REEXPORT_SKLEARN),
        [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..] => refuse("a compressed joblib pickle", REEXPORT_SKLEARN),
        [0x1F, 0x8B, ..] => refuse("gzip-compressed", UNPACK),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => refuse("zstd-compressed", UNPACK),
        [b'G', b'G', b'U', b'F', ..] => refuse("a GGUF language model", "import it as a language model"),
        [b'R', b'T', b'E', b'N', ..] => refuse("an rten file", "upload the ONNX file it was made from"),
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => refuse("a TensorFlow Lite file", REEXPORT_KERAS),
        [_, _, _, _, b'O', b'R', b'T', b'M', ..] => {
            refuse("an ONNX Runtime `.ort` file", "upload the `.onnx` file it was made from")
        }
        [_, _, _, _, _, _, 0, 0, b'{', b'"', ..] => {
            refuse("a safetensors file", "it holds weights without a network; upload an ONNX file")
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            refuse("a Git LFS pointer", "fetch the file it stands for with `git lfs pull`")
        }
        _ if file_name.eq_ignore_ascii_case("saved_model.pb") => {
            refuse("a TensorFlow SavedModel", REEXPORT_KERAS)
        }
        [b'{' | b'<' | b'[', ..] => refuse("a text file", "upload an ONNX file"),
        _ => Ok(()),
    }
}

/// Tells zips apart by the names of their entries, which stand at the start and in the directory at the end.
fn refuse_zip(bytes: &[u8]) -> Result<(), LoadError> {
    const LOOK: usize = 64 << 10;
    let head = bytes.get(..LOOK.min(bytes.len())).unwrap_or_default();
    let tail = bytes.get(bytes.len().saturating_sub(LOOK)..).unwrap_or_default();
    let names = |name: &[u8]| [head, tail].iter().any(|part| part.windows(name.len()).any(|w| w == name));
    let (found, advice) = if names(b"data.pkl") {
        ("a PyTorch file", REEXPORT_TORCH)
    } else if names(b"model.weights.h5") {
        ("a Keras archive", REEXPORT_KERAS)
    } else if names(b".npy") {
        ("a NumPy archive", "it holds arrays without a network; upload an ONNX file")
    } else {
        ("a zip archive", UNPACK)
    };
    Err(LoadError::WrongFormat { found, advice })
}
