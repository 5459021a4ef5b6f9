#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

const TWO: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},
    "a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}"#;

fn fault(header: &str, data: &[u8]) -> Fault {
    match Safetensors::from_bytes(file(header, data)) {
        Err(Error::Invalid { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tensors_of_floats_are_read() {
    let tensors = Safetensors::from_bytes(file(TWO, &[7; 16])).unwrap();
    let a = tensors.tensor("a").unwrap();
    assert_eq!((a.shape, a.format, a.bytes), (&[2, 2][..], Format::Bf16, &[7; 8][..]));
    assert!(tensors.tensor("b").is_none());
    assert_eq!(tensors.tensors().len(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let one = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    assert!(matches!(fault(TWO, &[0; 15]), Fault::Layout { .. }));
    assert!(matches!(fault(TWO, &[0; 17]), Fault::Layout { .. }));
    assert!(matches!(fault(&one("[1]", 4, 8), &[0; 8]), Fault::Layout { .. }));
    assert!(matches!(fault(&one("[2]", 0, 4), &[0; 4]), Fault::Size { .. }));
    assert!(matches!(fault(&one("[1]", 4, 0), &[0; 4]), Fault::Size { .. }));
    assert!(matches!(fault(&one("[0]", 0, 0), &[]), Fault::Size { .. }));
    assert!(matches!(fault(&one("[4611686018427387904,4]", 0, 0), &[]), Fault::Size { .. }));
    assert!(matches!(fault(&one("[1]", 18446744073709551612, 0), &[0; 4]), Fault::Size { .. }));
    assert!(matches!(fault(&one("[-1]", 0, 4), &[0; 4]), Fault::Header(_)));
    assert!(matches!(fault(&TWO.replace("\"b\"", "\"a\""), &[0; 16]), Fault::Header(_)));
    assert!(matches!(fault(&TWO.replace("I64", "Q64"), &[0; 16]), Fault::Type { .. }));
    assert!(matches!(fault(&TWO.replace("[8,16]", "[0,8]"), &[0; 16]), Fault::Layout { .. }));
    assert!(matches!(fault(&"[".repeat(100_000), &[]), Fault::Header(_)));
    for claimed in [u64::MAX, 1 << 62, 200_000_000, 17] {
        let bytes = [&claimed.to_le_bytes()[..], b"{}"].concat();
        let error = Safetensors::from_bytes(bytes).unwrap_err();
        assert!(
            matches!(error, Error::Invalid { fault: Fault::Truncated { header, .. }, .. } if header == claimed)
        );
    }
}

#[test]
fn an_index_names_files_beside_it_only() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    let index = |file: &str| put(INDEX_FILE, format!(r#"{{"weight_map":{{"a":{file:?}}}}}"#).as_bytes());
    put("one.safetensors", &file(TWO, &[7; 16]));
    index("one.safetensors");
    assert!(Safetensors::open(directory.path()).unwrap().tensor("a").is_some());
    for outside in ["../one.safetensors", "/etc/passwd", "a/b", "..", "", "./one.safetensors"] {
        index(outside);
        assert!(matches!(Safetensors::open(directory.path()), Err(Error::Json { .. })), "{outside}");
    }
    put(INDEX_FILE, br#"{"weight_map":{"z":"one.safetensors"}}"#);
    assert!(
        Safetensors::open(directory.path()).unwrap_err().to_string().contains("no file holds tensor \"z\"")
    );
}

#[test]
fn mutated_files_never_do_harm() {
    let good = file(TWO, &[7; 16]);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut survivors = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=next(2) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = b"0123456789[]{},\":-e."[next(20)],
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at, b"0123456789[]{},\":-e."[next(20)]),
            }
        }
        if let Ok(tensors) = Safetensors::from_bytes(bytes) {
            survivors += 1;
            let sizes = tensors.tensors().map(|tensor| tensor.bytes.len());
            std::hint::black_box(sizes.sum::<usize>());
        }
    }
    assert!(survivors > 100, "{survivors}");
}

#[test]
fn a_config_is_read() {
    let config =
        Config::parse(br#"{"model_type":"bert","hidden_size":384,"layer_norm_eps":1e-12,"other":[1]}"#)
            .unwrap();
    assert_eq!((config.hidden_size, config.layer_norm_eps, config.head_dim), (Some(384), Some(1e-12), None));
    for wrong in
        [r#"{}"#, r#"{"model_type":"a","hidden_size":-1}"#, r#"{"model_type":"a","rope_theta":-1}"#, "[", "1"]
    {
        assert!(Config::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}
