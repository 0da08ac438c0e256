//! JSON against the schemas in the documents, as far as those go.

use serde_json::Value;

/// Returns the schema in a document.
pub fn of(document: &str) -> Value {
    let (_, schema) = document.split_once("```json schema\n").expect("a schema");
    let (schema, _) = schema.split_once("```").expect("an end of the schema");
    serde_json::from_str(schema).expect("the schema is JSON")
}

/// Checks a value against a schema, and says what does not fit.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(cases) = schema["oneOf"].as_array() {
        let fitting = cases.iter().filter(|case| check(case, value).is_ok()).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{value} fits {fitting} cases of {schema}")) };
    }
    if let Some(constant) = schema.get("const") {
        return if constant == value { Ok(()) } else { Err(format!("{value} is not {constant}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let fits = |kind: &Value| match kind.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not for this schema"),
    };
    if !types.iter().any(fits) {
        return Err(format!("{value} is not {types:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(&schema["items"], item)?;
    }
    if let Some(object) = value.as_object() {
        let known = schema["properties"].as_object().expect("properties");
        for key in schema["required"].as_array().expect("required") {
            object.get(key.as_str().expect("a key")).ok_or(format!("{value} has no {key}"))?;
        }
        for (key, value) in object {
            check(known.get(key).ok_or(format!("{key} is not in the schema"))?, value)?;
        }
    }
    Ok(())
}
