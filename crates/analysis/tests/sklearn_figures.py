"""Makes predictions and the figures that scikit-learn computes from them, for tests/sklearn.rs.

    python crates/analysis/tests/sklearn_figures.py OUT [--seed 0] [--rows 300]

writes one directory per case into OUT, each with `rows.csv` (truth, then the scores or the prediction) and
`figures.csv` (name, value). The committed ones are in crates/analysis/tests/fixtures, made with the defaults.
"""

import argparse
import csv
import pathlib
import warnings

import numpy as np
from sklearn import metrics
from sklearn.preprocessing import label_binarize

THRESHOLDS = [i / 20 for i in range(20)] + [0.96, 0.97, 0.98, 0.99]


def softmax_rows(random, rows, classes, sharpness):
    truth = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += 1.0
    scores = np.exp(sharpness * logits)
    return truth, scores / scores.sum(axis=1, keepdims=True)


def multiclass(random, rows):
    truth, scores = softmax_rows(random, rows, 5, 1.5)
    truth[truth == 4] = np.where(random.random((truth == 4).sum()) < 0.7, 0, 4)
    return truth, scores


def binary(random, rows):
    return softmax_rows(random, rows, 2, 1.0)


def ties(random, rows):
    truth, scores = softmax_rows(random, rows, 3, 1.0)
    return truth, np.round(scores, 1)


def saturated(random, rows):
    """Scores of exactly 0 and 1, some of them wrong: the clipping of the log loss decides."""
    truth, scores = softmax_rows(random, rows, 3, 1.0)
    certain = random.random(rows) < 0.5
    scores[certain] = np.eye(3)[scores[certain].argmax(axis=1)]
    return truth, scores


def absent(random, rows):
    """Class 2 is predicted, never true; class 3 is neither."""
    truth, scores = softmax_rows(random, rows, 4, 1.0)
    truth[truth >= 2] = 1
    scores[:, 3] = 0.0
    return truth, scores / scores.sum(axis=1, keepdims=True)


def as_written(values):
    """Single precision, as its shortest decimal, as a reader of the file sees it."""
    single = values.astype(np.float32)
    texts = np.array([str(value) for value in single.ravel()]).reshape(single.shape)
    return texts, texts.astype(float)


def area_figures(figures, hot, scores):
    for average in ["micro", "macro", "weighted"]:
        occurring = hot.any(axis=0)
        columns = slice(None) if average == "micro" else occurring
        figures[f"average_precision_{average}"] = metrics.average_precision_score(
            hot[:, columns], scores[:, columns], average=average
        )
        if average == "micro" or occurring.sum() > 1:
            figures[f"roc_auc_{average}"] = metrics.roc_auc_score(
                hot[:, columns], scores[:, columns], average=average
            )
    for label in np.flatnonzero(hot.any(axis=0)):
        figures[f"roc_auc_{label}"] = metrics.roc_auc_score(hot[:, label], scores[:, label])
        figures[f"average_precision_{label}"] = metrics.average_precision_score(hot[:, label], scores[:, label])


def point(hot, given):
    """What the given labels are worth: micro-averages, with nothing given counting as precise."""
    options = {"average": "micro", "zero_division": 1.0}
    wrong = hot == 0
    return {
        "recall": metrics.recall_score(hot, given, average="micro"),
        "precision": metrics.precision_score(hot, given, **options),
        "f1": metrics.f1_score(hot, given, average="micro"),
        "false_positive_rate": given[wrong].mean(),
    }


def curve_figures(figures, hot, scores):
    best = np.zeros_like(hot)
    best[np.arange(len(hot)), scores.argmax(axis=1)] = 1
    for index, threshold in enumerate(THRESHOLDS):
        given = (scores >= threshold).astype(int)
        for name, value in point(hot, given).items():
            figures[f"curve_{index}_{name}"] = value
        for name, value in point(hot, given * best).items():
            figures[f"curve_{index}_{name}_at_1"] = value
        figures[f"curve_{index}_f1_macro"] = metrics.f1_score(hot, given, average="macro", zero_division=np.nan)
        true_negatives, false_positives, false_negatives, true_positives = metrics.confusion_matrix(
            hot.ravel(), given.ravel(), labels=[0, 1]
        ).ravel()
        figures[f"curve_{index}_true_positives"] = true_positives
        figures[f"curve_{index}_false_positives"] = false_positives
        figures[f"curve_{index}_false_negatives"] = false_negatives
        figures[f"curve_{index}_true_negatives"] = true_negatives


def classification_figures(truth, scores):
    labels = list(range(scores.shape[1]))
    predicted = scores.argmax(axis=1)
    figures = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "log_loss": metrics.log_loss(truth, scores, labels=labels),
    }
    for average in ["micro", "macro", "weighted"]:
        values = metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        for name, value in zip(["precision", "recall", "f1"], values):
            figures[f"{name}_{average}"] = value
    per_class = metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    for name, values in zip(["precision", "recall", "f1", "support"], per_class):
        for label, value in enumerate(values):
            figures[f"{name}_{label}"] = value
    for (true, taken), rows in np.ndenumerate(metrics.confusion_matrix(truth, predicted, labels=labels)):
        figures[f"confusion_{true}_{taken}"] = rows
    if len(labels) > 2:
        figures["top_2"] = metrics.top_k_accuracy_score(truth, scores, k=2, labels=labels)
        hot = label_binarize(truth, classes=labels)
    else:
        hot = np.eye(2, dtype=int)[truth]
    area_figures(figures, hot, scores)
    curve_figures(figures, hot, scores)
    return figures


def regression(random, rows):
    truth = random.gamma(2.0, 10.0, rows)
    return truth, truth * random.normal(1.0, 0.2, rows).clip(0.1)


def regression_offset(random, rows):
    """A large mean beside a small spread: cancellation shows."""
    truth = 1e6 + random.normal(size=rows)
    return truth, truth + random.normal(0.0, 0.3, rows)


def regression_signed(random, rows):
    """With a truth of 0, and values for which there is no logarithm."""
    truth = random.normal(0.0, 5.0, rows)
    truth[0] = 0.0
    return truth, truth + random.normal(0.0, 1.0, rows)


def regression_figures(truth, prediction):
    figures = {
        "root_mean_squared_error": metrics.root_mean_squared_error(truth, prediction),
        "mean_absolute_error": metrics.mean_absolute_error(truth, prediction),
        "mean_absolute_percentage_error": metrics.mean_absolute_percentage_error(truth, prediction),
        "r_squared": metrics.r2_score(truth, prediction),
    }
    if min(truth.min(), prediction.min()) > -1:
        figures["root_mean_squared_log_error"] = metrics.root_mean_squared_log_error(truth, prediction)
    return figures


def write(directory, rows, figures):
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "rows.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    with open(directory / "figures.csv", "w", newline="") as file:
        pairs = ((name, repr(float(value))) for name, value in figures.items())
        csv.writer(file, lineterminator="\n").writerows(pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=300)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    random = np.random.default_rng(args.seed)
    for case in [multiclass, binary, ties, saturated, absent]:
        truth, scores = case(random, args.rows)
        texts, scores = as_written(scores)
        rows = ([true, *row] for true, row in zip(truth, texts))
        write(args.out / case.__name__, rows, classification_figures(truth, scores))
    for case in [regression, regression_offset, regression_signed]:
        truth, prediction = case(random, args.rows)
        truth = np.array([float(repr(float(value))) for value in truth])
        texts, prediction = as_written(prediction)
        rows = ([repr(float(true)), text] for true, text in zip(truth, texts))
        write(args.out / case.__name__, rows, regression_figures(truth, prediction))


if __name__ == "__main__":
    main()
