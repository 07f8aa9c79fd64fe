//! Reports and their schema: a small validator for the words that `report.schema.json` uses.

use serde_json::{Value, json};

const WORDS: [&str; 13] = [
    "$schema",
    "$id",
    "title",
    "description",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "enum",
    "minimum",
    "const",
    "anyOf",
];

/// What of `value` does not fit `schema`.
pub(crate) fn misfits(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(rules) = schema.as_object() else {
        return if schema == &json!(true) { wrong } else { vec![format!("{at}: not permitted")] };
    };
    for word in rules.keys() {
        assert!(WORDS.contains(&word.as_str()), "the validator does not know {word:?}");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type {other:?}"),
    };
    let kinds: Vec<&str> = match &rules.get("type") {
        None => Vec::new(),
        Some(Value::String(kind)) => vec![kind],
        Some(kinds) => kinds.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    if !kinds.is_empty() && !kinds.into_iter().any(is) {
        return vec![format!("{at}: {value} is no {}", rules["type"])];
    }
    if rules.get("enum").is_some_and(|all| !all.as_array().unwrap().contains(value)) {
        wrong.push(format!("{at}: {value} is not in {}", rules["enum"]));
    }
    if rules.get("const").is_some_and(|one| one != value) {
        wrong.push(format!("{at}: {value} is not {}", rules["const"]));
    }
    if let (Some(least), Some(number)) = (rules.get("minimum").and_then(Value::as_f64), value.as_f64())
        && number < least
    {
        wrong.push(format!("{at}: {number} is less than {least}"));
    }
    if let Some(any) = rules.get("anyOf").and_then(Value::as_array)
        && !any.iter().any(|one| misfits(one, value, at).is_empty())
    {
        wrong.push(format!("{at}: {value} fits none of {any:?}"));
    }
    if let Some(object) = value.as_object() {
        for key in rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                wrong.push(format!("{at}: {key} is missing"));
            }
        }
        for (key, inner) in object {
            let rule = rules.get("properties").and_then(|all| all.get(key)).or(rules.get("additionalProperties"));
            if let Some(rule) = rule {
                wrong.extend(misfits(rule, inner, &format!("{at}.{key}")));
            }
        }
    }
    if let (Some(rule), Some(items)) = (rules.get("items"), value.as_array()) {
        for (index, item) in items.iter().enumerate() {
            wrong.extend(misfits(rule, item, &format!("{at}[{index}]")));
        }
    }
    wrong
}

pub(crate) fn schema() -> Value {
    serde_json::from_str(include_str!("../../report.schema.json")).unwrap()
}

/// Fails unless `report` fits the schema that is published.
pub(crate) fn check(report: &Value) {
    assert_eq!(misfits(&schema(), report, "report"), Vec::<String>::new());
}

#[test]
fn the_validator_finds_what_does_not_fit() {
    let schema = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "type": "integer", "minimum": 0 }, "b": { "type": ["string", "null"], "enum": ["x", null] },
                        "c": { "type": "array", "items": { "type": "number" } } },
    });
    assert!(misfits(&schema, &json!({ "a": 1, "b": null, "c": [1, 2.5] }), "").is_empty());
    for wrong in [
        json!([]),
        json!({}),
        json!({ "a": -1 }),
        json!({ "a": 1.5 }),
        json!({ "a": 1, "b": "y" }),
        json!({ "a": 1, "c": ["x"] }),
        json!({ "a": 1, "d": 1 }),
    ] {
        assert!(!misfits(&schema, &wrong, "").is_empty(), "{wrong}");
    }
}
