#![allow(clippy::unwrap_used)]

use formats::processing::Processing;
use tensor::TensorSpec;

use super::*;

fn signature(inputs: &[(&str, DataType, &[usize])]) -> Signature {
    let spec = |(name, data_type, row): &(&str, DataType, &[usize])| TensorSpec {
        name: (*name).into(),
        data_type: *data_type,
        shape: std::iter::once(Dim::Any).chain(row.iter().map(|n| Dim::Fixed(*n))).collect(),
    };
    Signature { inputs: inputs.iter().map(spec).collect(), outputs: vec![] }
}

fn declared(document: &str, signature: &Signature) -> Result<Declared, String> {
    let nothing = |_: &str| Ok(Vec::new());
    let input = Processing::from_yaml(document, nothing).unwrap().input.unwrap();
    Declared::new(input, Path::new("/nonexistent"), signature)
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// One red pixel, as Pillow writes it.
const RED: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

#[test]
fn pictures_come_in_every_form_that_clients_send() {
    let own = signature(&[("x", DataType::F32, &[3, 1, 2])]);
    let model = declared("image: {resize: [1, 2], rescale: 1}", &own).unwrap();
    let forms = [
        format!("\"{RED}\""),
        format!("\"data:image/png;base64,{RED}\""),
        format!("{{\"b64\": \"{RED}\"}}"),
        format!("{{\"content\": \"{RED}\", \"mimeType\": \"image/png\"}}"),
        format!("{{\"image\": \"{RED}\"}}"),
        format!("{{\"image\": {{\"b64\": \"{RED}\"}}}}"),
        format!("[\"{RED}\"]"),
    ];
    for form in forms {
        let tensors = model.tensors(&[value(&form)]).unwrap();
        assert_eq!(tensors[0].1.shape(), [1, 3, 1, 2]);
        assert_eq!(tensors[0].1.as_f32().unwrap(), [255.0, 255.0, 0.0, 0.0, 0.0, 0.0], "{form}");
    }
    for (form, said) in [
        ("5", "instance 0: `image`: expected an image file in base64, found a number"),
        ("\"cat\"", "in base64"),
        ("{\"b64\": 5}", "`b64` must be a string"),
        ("{\"b64\": \"\", \"content\": \"\"}", "`content` must be a string beside no other"),
        ("{\"mimeType\": \"image/png\"}", "`b64` or `content` is missing"),
        ("{\"image\": \"\", \"other\": 1}", "field `other` is not an input"),
        ("{\"picture\": \"\"}", "`picture` is not known"),
    ] {
        let error = model.tensors(&[value(form)]).unwrap_err().to_string();
        assert!(error.contains(said), "{form}: {error}");
    }
    let wrong = value(&format!("{{\"content\": \"{RED}\", \"mimeType\": \"image/jpeg\"}}"));
    assert!(model.tensors(&[wrong]).unwrap_err().to_string().contains("says `image/jpeg`"));
}

#[test]
fn many_small_files_do_not_become_too_much() {
    let own = signature(&[("x", DataType::F32, &[3, 4096, 4096])]);
    let model = declared("image: {resize: 4096}", &own).unwrap();
    let error = model.tensors(&[Value::Null, Value::Null]).unwrap_err().to_string();
    assert!(error.contains("more than 268435456 bytes; send at most 1 at a time"), "{error}");
}

#[test]
fn what_the_network_does_not_take_is_refused_at_load() {
    let images = "image: {resize: [1, 2]}";
    let two = signature(&[("x", DataType::F32, &[3, 1, 2]), ("y", DataType::F32, &[1])]);
    for (document, own, said) in [
        (
            images,
            signature(&[("x", DataType::F32, &[1, 2, 3])]),
            "rows of shape [3, 1, 2], which the input `x",
        ),
        (images, signature(&[("x", DataType::Text, &[3, 1, 2])]), "does not take"),
        (images, two, "one input can be made, not several"),
        ("image: {crop: 1, input: z}", signature(&[("x", DataType::F32, &[3, 1, 1])]), "`z` is not an input"),
        ("text: {}", signature(&[("input_ids", DataType::I32, &[128])]), "no file `tokenizer.json`"),
        (
            "text: {tokenizer: ../t.json}",
            signature(&[("input_ids", DataType::I32, &[128])]),
            "is not the name",
        ),
        ("text: {}", signature(&[("x", DataType::I32, &[128])]), "is none of `input_ids`"),
        ("table: {columns: [a]}", signature(&[("x", DataType::F32, &[2])]), "rows of shape [1]"),
    ] {
        let error = declared(document, &own).err().unwrap();
        assert!(error.contains(said), "{document}: {error}");
    }
}

#[test]
fn cells_become_numbers_in_the_order_of_the_network() {
    let own = signature(&[("x", DataType::F32, &[3])]);
    let document = "table: {columns: [age, {name: city, categories: [Liège, Namur], unknown: 9}, {name: rooms, missing: 2}]}";
    let model = declared(document, &own).unwrap();
    let instances = [
        value(r#"{"rooms": 4, "city": "Namur", "age": 30}"#),
        value(r#"["31", "Huy", null]"#),
        value(r#"{"rooms": "5", "city": "Liège", "age": true}"#),
    ];
    let tensors = model.tensors(&instances).unwrap();
    assert_eq!(tensors[0].1.as_f32().unwrap(), [30.0, 1.0, 4.0, 31.0, 9.0, 2.0, 1.0, 0.0, 5.0]);
    let names = ["city", "rooms", "other", "age"].map(str::to_owned).to_vec();
    let rows = [vec!["Huy", "", "x", "7"], vec!["Namur", "1", "x", "old"]];
    let (tensors, faults) = model.table(&RowBlock::new(names, 5, &rows).unwrap()).unwrap();
    assert_eq!(tensors[0].1.as_f32().unwrap(), [7.0, 9.0, 2.0]);
    assert_eq!((faults[0].row, faults[0].reason.contains("`age`")), (6, true));
    for (instance, said) in [
        (r#"{"age": 1, "city": "Huy"}"#, "field `rooms` is missing"),
        (r#"{"age": null, "city": "Huy", "rooms": 1}"#, "`age`: expected a number, found nothing"),
        ("[1, 2]", "expected a list of 3"),
        ("5", "expected an object with `age`, `city`, `rooms`, found a number"),
    ] {
        let error = model.tensors(&[value(instance)]).unwrap_err().to_string();
        assert!(error.contains(said), "{instance}: {error}");
    }
}
