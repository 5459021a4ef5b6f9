//! ONNX's own node tests, as the `onnx` package makes them: how many pass, operator by operator. The table in
//! `docs/onnx-operators.md` says it; no count may fall. `MEUSE_WRITE_TABLE=1` writes the table anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use rten_onnx::onnx::{DataType as Element, ModelProto, TensorProto};
use tensor::{Data, OnnxModel, Tensor};

/// How far a result may lie off, as ONNX's own runner has it.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-6;

/// Tests that pass, and all, by operator.
type Table = BTreeMap<String, (usize, usize)>;

#[test]
fn no_operator_passes_fewer_of_its_tests() {
    let Some(python) = std::env::var_os("MEUSE_PYTHON") else {
        eprintln!("MEUSE_PYTHON is not set: the node tests are not run");
        return;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operators");
    let script = here.join("tests").join("operators.py");
    assert!(Command::new(python).arg(script).arg(&directory).status().unwrap().success());
    let found = run_all(&directory);
    let path = here.join("../../docs/onnx-operators.md");
    if std::env::var_os("MEUSE_WRITE_TABLE").is_some() {
        fs::write(&path, written(&found)).unwrap();
    }
    let known = read(&fs::read_to_string(&path).unwrap());
    assert!(known.len() > 100, "the table has {} operators", known.len());
    for (operator, (passed, _)) in known {
        let now = found.get(&operator).map_or(0, |(now, _)| *now);
        assert!(now >= passed, "{operator}: {now} tests pass, {passed} did");
    }
}

fn run_all(directory: &Path) -> Table {
    let mut table = Table::new();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let bytes = fs::read(case.join("model.onnx")).unwrap();
        let model = ModelProto::parse_buf(&bytes).unwrap();
        let graph = model.graph.unwrap();
        let node = graph.node.last().unwrap();
        let name = node.op_type.clone().unwrap();
        let operator = match node.domain.as_deref().unwrap_or_default() {
            "" | "ai.onnx" => name,
            domain => format!("{name} ({domain})"),
        };
        let names: Vec<String> = graph.input.iter().filter_map(|port| port.name.clone()).collect();
        let passes = catch_unwind(|| passes(&case, bytes, &names)).ok().flatten().is_some();
        let (passed, all) = table.entry(operator).or_default();
        *passed += usize::from(passes);
        *all += 1;
    }
    table
}

/// Something, if the model gives what it should.
fn passes(case: &Path, bytes: Vec<u8>, names: &[String]) -> Option<()> {
    let model = OnnxModel::from_bytes(bytes).ok()?;
    let side = |side: &str| -> Option<Vec<Carried>> {
        let held = ModelProto::parse_buf(&fs::read(case.join(side)).ok()?).ok()?;
        held.graph?.initializer.iter().map(carried).collect()
    };
    let given = side("inputs.onnx")?;
    let inputs: Option<Vec<(String, Tensor)>> = names
        .iter()
        .zip(given)
        .map(|(name, (shape, values, float))| {
            let data = match float {
                true => Data::F32(values.iter().map(|&x| x as f32).collect()),
                false => {
                    Data::I32(values.iter().map(|&x| i32::try_from(x as i64).ok()).collect::<Option<_>>()?)
                }
            };
            Some((name.clone(), Tensor::new(shape, data).ok()?))
        })
        .collect();
    let outputs = model.run(&inputs?).ok()?;
    for ((_, tensor), (shape, want, _)) in outputs.iter().zip(side("outputs.onnx")?) {
        let got: Vec<f64> = match tensor.data() {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Text(_) => return None,
        };
        let near = |(g, w): (&f64, &f64)| {
            g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs()
        };
        if tensor.shape() != shape || got.len() != want.len() || !got.iter().zip(&want).all(near) {
            return None;
        }
    }
    Some(())
}

/// Shape, numbers and whether these are floats.
type Carried = (Vec<usize>, Vec<f64>, bool);

/// A tensor, if it is of a type that can be carried.
fn carried(tensor: &TensorProto) -> Option<Carried> {
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let raw = tensor.raw_data.as_ref().map(|raw| raw.borrow().clone()).unwrap_or_default();
    fn all<const N: usize>(raw: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        raw.as_chunks::<N>().0.iter().map(|&bytes| of(bytes)).collect()
    }
    let (values, float) = match tensor.data_type? {
        Element::FLOAT => (all(&raw, |b| f64::from(f32::from_le_bytes(b))), true),
        Element::DOUBLE => (all(&raw, f64::from_le_bytes), true),
        Element::INT64 => (all(&raw, |b| i64::from_le_bytes(b) as f64), false),
        Element::INT32 => (all(&raw, |b| f64::from(i32::from_le_bytes(b))), false),
        Element::INT8 => (all(&raw, |b| f64::from(i8::from_le_bytes(b))), false),
        Element::UINT8 | Element::BOOL => (all(&raw, |[b]| f64::from(b)), false),
        _ => return None,
    };
    Some((shape, values, float))
}

const HEAD: &str = "# ONNX operators\n\nHow many of ONNX's own node tests pass, by operator; those of functions written \
    out in other operators are left out. Tests of strings, sequences, maps and of element types that no model here \
    takes count as not passed. Made by `crates/tensor/tests/operators.rs`, which also checks that no count falls.\n";

fn written(table: &Table) -> String {
    let (passed, all) = table.values().fold((0, 0), |(p, a), (passed, all)| (p + passed, a + all));
    let whole = table.values().filter(|(passed, all)| passed == all).count();
    let mut text = format!(
        "{HEAD}\n{passed} of {all} tests pass; {whole} of {} operators pass all of theirs.\n\n\
         | operator | pass | of |\n|---|---|---|\n",
        table.len()
    );
    for (operator, (passed, all)) in table {
        writeln!(text, "| {operator} | {passed} | {all} |").unwrap();
    }
    text
}

fn read(text: &str) -> Table {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (operator, passed, all) = (cells.next()?, cells.next()?, cells.next()?);
        Some((operator.to_owned(), (passed.parse().ok()?, all.parse().ok()?)))
    };
    text.lines().filter_map(row).collect()
}
