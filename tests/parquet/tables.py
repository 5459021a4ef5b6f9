"""Tables, and every way in which writers put them into Parquet files."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = ["Liège", None, "", "Namur, \"sur\" Meuse", "a\nb", "7"]


def table(rows: int) -> pa.Table:
    """Every kind of column that is read, with nulls."""
    def some(values):
        return [None if n % 7 == 3 else value for n, value in enumerate(values)]

    count = range(rows)
    start = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)
    return pa.table({
        "id": pa.array(count, pa.int64()),
        "small": pa.array(some(n % 200 - 100 for n in count), pa.int8()),
        "int": pa.array(some(n * 7919 - 10**6 for n in count), pa.int32()),
        "long": pa.array(some(-(2**62) + n * 3**20 for n in count), pa.int64()),
        "unsigned": pa.array(some(2**64 - 1 - n for n in count), pa.uint64()),
        "byte": pa.array(some(255 - n % 256 for n in count), pa.uint8()),
        "float": pa.array(some(n / 3 for n in count), pa.float32()),
        "double": pa.array(some((-1) ** n * n / 7e9 for n in count), pa.float64()),
        "bool": pa.array(some(n % 3 == 0 for n in count), pa.bool_()),
        "text": pa.array([TEXTS[n % len(TEXTS)] for n in count], pa.string()),
        "own": pa.array(some(f"row {n}" for n in count), pa.string()),
        "category": pa.array(some(["x", "y"][n % 2] for n in count)).dictionary_encode(),
        "day": pa.array(some(start.date() + datetime.timedelta(n) for n in count), pa.date32()),
        "time": pa.array(some(start + datetime.timedelta(hours=n) for n in count), pa.timestamp("us")),
        "price": pa.array(some(decimal.Decimal(n) / 100 for n in count), pa.decimal128(9, 2)),
        "nothing": pa.array([None] * rows, pa.string()),
    })


def cell(value) -> str:
    """What a cell holds of a value."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime.datetime() | datetime.date():
            return value.isoformat()
        case decimal.Decimal():
            return str(value.to_integral_value() if value == value.to_integral_value() else value)
        case _:
            return str(value)


ENCODINGS = {
    "plain": {},
    "deltas": {
        "id": "DELTA_BINARY_PACKED", "int": "DELTA_BINARY_PACKED", "long": "DELTA_BINARY_PACKED",
        "text": "DELTA_LENGTH_BYTE_ARRAY", "own": "DELTA_BYTE_ARRAY", "bool": "RLE",
    },
    "split": {"float": "BYTE_STREAM_SPLIT", "double": "BYTE_STREAM_SPLIT", "int": "BYTE_STREAM_SPLIT"},
}

WRITERS = {
    "plain": {"use_dictionary": False, "compression": "none", "column_encoding": None},
    "dictionary": {"compression": "snappy"},
    "deltas": {"use_dictionary": False, "compression": "gzip", "column_encoding": ENCODINGS["deltas"]},
    "split": {"use_dictionary": False, "compression": "zstd", "column_encoding": ENCODINGS["split"]},
    "second": {"compression": "zstd", "data_page_version": "2.0"},
    "second-deltas": {
        "use_dictionary": False, "compression": "snappy", "data_page_version": "2.0",
        "column_encoding": ENCODINGS["deltas"],
    },
    "old": {"version": "1.0", "compression": "gzip", "write_statistics": False},
    "checksums": {"compression": "snappy", "write_page_checksum": True},
}


def write(path, rows: pa.Table, writer: str = "dictionary", **options) -> None:
    options = {"row_group_size": 700, "data_page_size": 900, "write_batch_size": 64, "store_decimal_as_integer": True} | WRITERS[writer] | options
    pq.write_table(rows, path, **options)


if __name__ == "__main__":
    import pathlib

    corpus = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "corpus" / "parquet"
    columns = ["id", "long", "double", "bool", "text", "category", "time"]
    for name in WRITERS:
        encodings = WRITERS[name].get("column_encoding")
        kept = {"column_encoding": {c: e for c, e in encodings.items() if c in columns}} if encodings else {}
        write(corpus / name, table(24).select(columns), name, row_group_size=16, store_schema=False, **kept)
