//! Our figures beside scikit-learn's, on predictions made by `sklearn_figures.py`: those it made once, which are
//! committed, and, when `MEUSE_PYTHON` names a Python with scikit-learn, those it makes now.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use analysis::{Averages, Classification, ClassificationMetrics, Options, Regression, as_written};

const TOLERANCE: f64 = 1e-9;

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

type Figures = BTreeMap<String, f64>;

fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// What we compute, under the script's names. The rows are measured in three parts and merged.
fn classification(rows: &[Vec<String>]) -> Figures {
    let classes = rows[0].len() - 1;
    let options = Options { top_k: vec![2], ..Options::default() };
    let mut whole = Classification::new(classes, options.clone()).unwrap();
    for part in rows.chunks(rows.len() / 3) {
        let mut figures = Classification::new(classes, options.clone()).unwrap();
        for row in part {
            let scores: Vec<f32> = row[1..].iter().map(|s| s.parse().unwrap()).collect();
            figures.observe(row[0].parse().unwrap(), &scores).unwrap();
        }
        whole.merge(figures).unwrap();
    }
    named(&whole.metrics())
}

fn named(metrics: &ClassificationMetrics) -> Figures {
    let mut figures = Figures::new();
    let mut put = |name: String, value: f64| assert!(figures.insert(name, value).is_none());
    put("accuracy".into(), metrics.accuracy);
    put("log_loss".into(), metrics.log_loss.unwrap());
    put("top_2".into(), metrics.top_k[0].1);
    for (name, averages) in
        [("micro", &metrics.micro), ("macro", &metrics.macro_), ("weighted", &metrics.weighted)]
    {
        put_averages(&mut put, name, averages);
    }
    for (class, of) in metrics.per_class.iter().enumerate() {
        put_averages(
            &mut put,
            &class.to_string(),
            &Averages {
                precision: of.precision,
                recall: of.recall,
                f1: of.f1,
                roc_auc: of.roc_auc,
                average_precision: of.average_precision,
            },
        );
        put(format!("support_{class}"), of.support as f64);
        for (predicted, rows) in metrics.confusion.row(class).into_iter().enumerate() {
            put(format!("confusion_{class}_{predicted}"), rows as f64);
        }
    }
    for (index, point) in metrics.curve.iter().enumerate() {
        for (name, value) in [
            ("recall", point.recall),
            ("precision", point.precision),
            ("f1", point.f1),
            ("f1_macro", point.f1_macro),
            ("false_positive_rate", point.false_positive_rate),
            ("recall_at_1", point.recall_at_1),
            ("precision_at_1", point.precision_at_1),
            ("f1_at_1", point.f1_at_1),
            ("false_positive_rate_at_1", point.false_positive_rate_at_1),
            ("true_positives", point.true_positives as f64),
            ("false_positives", point.false_positives as f64),
            ("false_negatives", point.false_negatives as f64),
            ("true_negatives", point.true_negatives as f64),
        ] {
            put(format!("curve_{index}_{name}"), value);
        }
    }
    figures
}

fn put_averages(put: &mut impl FnMut(String, f64), of: &str, averages: &Averages) {
    put(format!("precision_{of}"), averages.precision);
    put(format!("recall_{of}"), averages.recall);
    put(format!("f1_{of}"), averages.f1);
    for (name, area) in [("roc_auc", averages.roc_auc), ("average_precision", averages.average_precision)] {
        if let Some(area) = area {
            assert_eq!(area.error_bound, 0.0);
            put(format!("{name}_{of}"), area.value);
        }
    }
}

fn regression(rows: &[Vec<String>]) -> Figures {
    let mut whole = Regression::new();
    for part in rows.chunks(rows.len() / 3) {
        let mut figures = Regression::new();
        for row in part {
            figures.observe(row[0].parse().unwrap(), as_written(row[1].parse().unwrap())).unwrap();
        }
        whole.merge(figures);
    }
    let metrics = whole.metrics().unwrap();
    let mut figures = Figures::from([
        ("root_mean_squared_error".into(), metrics.root_mean_squared_error),
        ("mean_absolute_error".into(), metrics.mean_absolute_error),
        ("mean_absolute_percentage_error".into(), metrics.mean_absolute_percentage_error),
        ("r_squared".into(), metrics.r_squared.unwrap()),
    ]);
    figures
        .extend(metrics.root_mean_squared_log_error.map(|v| ("root_mean_squared_log_error".to_owned(), v)));
    figures
}

/// Every figure of scikit-learn's in every case under `dir`; all that differ are reported.
fn compare(dir: &Path) {
    let mut cases = 0;
    let mut differences = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let rows = lines(&case.join("rows.csv"));
        let ours = if name.starts_with("regression") { regression(&rows) } else { classification(&rows) };
        for line in lines(&case.join("figures.csv")) {
            let theirs: f64 = line[1].parse().unwrap();
            let found = ours.get(&line[0]);
            if !found.is_some_and(|found| (found - theirs).abs() <= TOLERANCE * theirs.abs().max(1.0)) {
                differences.push(format!("{name}: {} is {theirs}, ours {found:?}", line[0]));
            }
        }
        cases += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(cases, 8, "cases in {}", dir.display());
}

#[test]
fn figures_equal_those_scikit_learn_gave() {
    compare(&tests_dir().join("fixtures"));
}

#[test]
fn figures_equal_those_scikit_learn_gives() {
    let Some(python) = std::env::var_os("MEUSE_PYTHON") else {
        eprintln!("MEUSE_PYTHON is not set: only the committed figures are compared");
        return;
    };
    for seed in ["1", "2", "3"] {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sklearn").join(seed);
        let status = Command::new(&python)
            .arg(tests_dir().join("sklearn_figures.py"))
            .args([out.as_os_str(), "--seed".as_ref(), seed.as_ref(), "--rows".as_ref(), "3000".as_ref()])
            .status()
            .expect("MEUSE_PYTHON can be started");
        assert!(status.success(), "{} failed; it needs scikit-learn", python.display());
        compare(&out);
    }
}
