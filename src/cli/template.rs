//! Templates for `--format`: the part of Go's text/template that people use. docs/images.md describes it.
//!
//! `{{.A.B}}` is a field, `{{json .A}}` its JSON, `{{range .A}}…{{end}}` each of a list, `{{if .A}}…{{else}}…{{end}}` a choice.
//! The functions are json, join, index, len, upper, lower and println; `|` hands the value on as the last argument.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

/// The deepest nesting of range and if.
const MAX_DEPTH: usize = 16;
/// The most that a template may make, in bytes.
const MAX_TEXT: usize = 64 << 20;

/// A template is wrong, or does not fit what it is used on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A `{{` without `}}`.
    #[error("there is no }}}} behind {0:?}")]
    Open(String),
    /// A word that is not known.
    #[error(
        "{0:?} is not known in a template: there are fields (.A.B), json, join, index, len, upper, lower, println, range, if, else and end"
    )]
    Unknown(String),
    /// `range` or `if` without `end`, or the other way round.
    #[error("{0} has no counterpart")]
    Unbalanced(&'static str),
    /// Too deep.
    #[error("range and if are nested more than {MAX_DEPTH} deep")]
    Deep,
    /// A function got what it cannot use.
    #[error("{function} cannot use what it was given")]
    Argument {
        /// The function.
        function: String,
    },
    /// There is no such field.
    #[error("there is no field {field:?}, only {}", known.join(", "))]
    NoField {
        /// The field.
        field: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The result is too long.
    #[error("the template makes more than {MAX_TEXT} bytes")]
    Long,
}

/// A template, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    Value(Vec<Call>),
    Range(Vec<Call>, Vec<Node>),
    If(Vec<Call>, Vec<Node>, Vec<Node>),
}

/// A function with its arguments; without a function, a single value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    function: Option<String>,
    arguments: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Field { root: bool, path: Vec<String> },
    Literal(Value),
}

const FUNCTIONS: [&str; 7] = ["json", "join", "index", "len", "upper", "lower", "println"];

impl Template {
    /// Returns the template in `text`. `\t` and `\n` in it are a tab and a line feed.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let cut = || behind.chars().take(60).collect();
            let (inside, after) = behind.split_once("}}").ok_or_else(|| TemplateError::Open(cut()))?;
            let (inside, trim_before) = inside.strip_prefix("- ").map_or((inside, false), |inside| (inside, true));
            let (inside, trim_after) = inside.strip_suffix(" -").map_or((inside, false), |inside| (inside, true));
            let before = if trim_before { before.trim_end() } else { before };
            pieces.push(Piece::Text(unescape(before)));
            pieces.push(Piece::Action(inside.trim().to_owned()));
            rest = if trim_after { after.trim_start() } else { after };
        }
        pieces.push(Piece::Text(unescape(rest)));
        let mut pieces = pieces.into_iter().peekable();
        let (nodes, end) = nodes(&mut pieces, 0)?;
        match end {
            None => Ok(Template { nodes }),
            Some(word) => Err(TemplateError::Unbalanced(word)),
        }
    }

    /// Returns the head of a column for each value of the template, as docker prints it: its text stays, a field is its name in capitals.
    pub fn head(&self) -> String {
        let mut out = String::new();
        for node in &self.nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Value(calls) => out.push_str(&calls.iter().find_map(head_of).unwrap_or_default()),
                // A choice, or a list, has no name.
                Node::Range(..) | Node::If(..) => {}
            }
        }
        out
    }

    /// Returns what the template makes of `data`.
    ///
    /// # Errors
    /// [`TemplateError`] where a field is missing or a function cannot use its arguments.
    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        render(&self.nodes, data, data, &mut out)?;
        Ok(out)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

/// Returns the name of the first field that a call uses: `CreatedSince` is CREATED, `CreatedBy` CREATED BY.
fn head_of(call: &Call) -> Option<String> {
    let field = call.arguments.iter().find_map(|term| match term {
        Term::Field { path, .. } => path.last(),
        Term::Literal(_) => None,
    })?;
    Some(match field.as_str() {
        "ID" => "IMAGE ID".into(),
        "CreatedSince" => "CREATED".into(),
        name => {
            let mut words = String::new();
            for (at, letter) in name.char_indices() {
                let begins = at > 0 && letter.is_uppercase() && name[..at].ends_with(char::is_lowercase);
                words.extend(begins.then_some(' '));
                words.extend(letter.to_uppercase());
            }
            words
        }
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Returns the nodes up to `else` or `end`, and which of the two it was.
fn nodes(
    pieces: &mut Peekable<IntoIter<Piece>>,
    depth: usize,
) -> Result<(Vec<Node>, Option<&'static str>), TemplateError> {
    if depth > MAX_DEPTH {
        return Err(TemplateError::Deep);
    }
    let mut found = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) if text.is_empty() => continue,
            Piece::Text(text) => {
                found.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(' ').unwrap_or((action.as_str(), ""));
        match word {
            "end" => return Ok((found, Some("end"))),
            "else" if rest.is_empty() => return Ok((found, Some("else"))),
            "range" => match nodes(pieces, depth + 1)? {
                (body, Some("end")) => found.push(Node::Range(pipeline(rest)?, body)),
                _ => return Err(TemplateError::Unbalanced("range")),
            },
            "if" => {
                let condition = pipeline(rest)?;
                let (then, otherwise) = match nodes(pieces, depth + 1)? {
                    (then, Some("end")) => (then, Vec::new()),
                    (then, Some("else")) => match nodes(pieces, depth + 1)? {
                        (otherwise, Some("end")) => (then, otherwise),
                        _ => return Err(TemplateError::Unbalanced("else")),
                    },
                    _ => return Err(TemplateError::Unbalanced("if")),
                };
                found.push(Node::If(condition, then, otherwise));
            }
            _ if action.starts_with("/*") => {}
            _ => found.push(Node::Value(pipeline(&action)?)),
        }
    }
    Ok((found, None))
}

fn pipeline(text: &str) -> Result<Vec<Call>, TemplateError> {
    let words = words(text)?;
    let calls: Vec<&[Word]> = words.split(|word| matches!(word, Word::Pipe)).collect();
    calls.into_iter().map(|words| call(words, text)).collect()
}

fn call(words: &[Word], text: &str) -> Result<Call, TemplateError> {
    let unknown = || TemplateError::Unknown(text.chars().take(60).collect());
    let (function, rest) = match words {
        [Word::Name(name), rest @ ..] if FUNCTIONS.contains(&name.as_str()) => (Some(name.clone()), rest),
        [Word::Term(_)] => (None, words),
        _ => return Err(unknown()),
    };
    let terms = rest.iter().map(|word| match word {
        Word::Term(term) => Ok(term.clone()),
        _ => Err(unknown()),
    });
    Ok(Call { function, arguments: terms.collect::<Result<_, _>>()? })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Pipe,
    Name(String),
    Term(Term),
}

fn words(text: &str) -> Result<Vec<Word>, TemplateError> {
    let unknown = || TemplateError::Unknown(text.chars().take(60).collect());
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('|') {
            found.push(Word::Pipe);
            rest = behind.trim_start();
            continue;
        }
        if rest.starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let Some(Ok(literal @ Value::String(_))) = stream.next() else { return Err(unknown()) };
            let at = stream.byte_offset();
            found.push(Word::Term(Term::Literal(literal)));
            rest = rest[at..].trim_start();
            continue;
        }
        let end = rest.find([' ', '\t', '|', '"']).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        let path = |fields: &str| -> Result<Vec<String>, TemplateError> {
            if fields.is_empty() {
                return Ok(Vec::new());
            }
            let fields: Vec<String> = fields.split('.').map(str::to_owned).collect();
            if fields.iter().any(String::is_empty) { Err(unknown()) } else { Ok(fields) }
        };
        found.push(match (word.strip_prefix("$."), word.strip_prefix('.')) {
            (Some(fields), _) => Word::Term(Term::Field { root: true, path: path(fields)? }),
            (None, Some(fields)) => Word::Term(Term::Field { root: false, path: path(fields)? }),
            (None, None) if word == "$" => Word::Term(Term::Field { root: true, path: Vec::new() }),
            (None, None) => match word.parse::<u64>() {
                Ok(number) => Word::Term(Term::Literal(number.into())),
                Err(_) => Word::Name(word.to_owned()),
            },
        });
    }
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

fn render(nodes: &[Node], root: &Value, here: &Value, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Value(calls) => show(&value(calls, root, here)?, out),
            Node::Range(calls, body) => match value(calls, root, here)? {
                Value::Array(list) => list.iter().try_for_each(|item| render(body, root, item, out))?,
                Value::Object(map) => map.values().try_for_each(|item| render(body, root, item, out))?,
                Value::Null => {}
                _ => return Err(TemplateError::Argument { function: "range".into() }),
            },
            Node::If(calls, then, otherwise) => {
                let branch = if is_true(&value(calls, root, here)?) { then } else { otherwise };
                render(branch, root, here, out)?;
            }
        }
        if out.len() > MAX_TEXT {
            return Err(TemplateError::Long);
        }
    }
    Ok(())
}

fn value(calls: &[Call], root: &Value, here: &Value) -> Result<Value, TemplateError> {
    let mut piped: Option<Value> = None;
    for call in calls {
        let mut arguments: Vec<Value> = call
            .arguments
            .iter()
            .map(|term| match term {
                Term::Literal(value) => Ok(value.clone()),
                Term::Field { root: from_root, path } => field(if *from_root { root } else { here }, path),
            })
            .collect::<Result<_, _>>()?;
        arguments.extend(piped.take());
        piped = Some(match &call.function {
            None => arguments.pop().unwrap_or_default(),
            Some(function) => apply(function, &arguments)?,
        });
    }
    Ok(piped.unwrap_or_default())
}

fn apply(function: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || TemplateError::Argument { function: function.into() };
    let text = |value: &Value| {
        let mut text = String::new();
        show(value, &mut text);
        text
    };
    Ok(match (function, arguments) {
        ("json", [value]) => value.to_string().into(),
        ("upper", [Value::String(word)]) => word.to_uppercase().into(),
        ("lower", [Value::String(word)]) => word.to_lowercase().into(),
        ("len", [Value::Array(list)]) => list.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [Value::String(word)]) => word.len().into(),
        ("len", [Value::Null]) => 0.into(),
        // As in Go the list comes first; piped, it comes last.
        ("join", [Value::Array(list), Value::String(between)] | [Value::String(between), Value::Array(list)]) => {
            list.iter().map(text).collect::<Vec<_>>().join(between).into()
        }
        ("join", [Value::Null, Value::String(_)] | [Value::String(_), Value::Null]) => "".into(),
        ("println", values) => (values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n").into(),
        ("index", [from, keys @ ..]) if !keys.is_empty() => {
            let mut at = from.clone();
            for key in keys {
                at = match (&at, key) {
                    (Value::Array(list), Value::Number(number)) => {
                        let at = number.as_u64().and_then(|number| list.get(usize::try_from(number).ok()?));
                        at.cloned().ok_or_else(wrong)?
                    }
                    (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or_default(),
                    (Value::Null, _) => Value::Null,
                    _ => return Err(wrong()),
                };
            }
            at
        }
        _ => return Err(wrong()),
    })
}

/// Returns the field; where its letters are there in another case, that one. What an optional part of an image lacks is null.
fn field(from: &Value, path: &[String]) -> Result<Value, TemplateError> {
    let mut at = from;
    for (depth, name) in path.iter().enumerate() {
        let Value::Object(map) = at else {
            return if at.is_null() { Ok(Value::Null) } else { Err(no_field(name, &[])) };
        };
        let found = map
            .get(name)
            .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
        match found {
            Some(value) => at = value,
            // Deeper down are the words of the specifications, most of them optional.
            None if depth > 0 => return Ok(Value::Null),
            None => return Err(no_field(name, &map.keys().take(50).cloned().collect::<Vec<_>>())),
        }
    }
    Ok(at.clone())
}

fn no_field(name: &str, known: &[String]) -> TemplateError {
    TemplateError::NoField { field: name.chars().take(60).collect(), known: known.to_vec() }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Writes a value as Go does: `[a b]`, `map[a:1]`.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(text),
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                show(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                let _ = write!(out, "{key}:");
                show(&map[key], out);
            }
            out.push(']');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(template: &str) -> Result<String, TemplateError> {
        let data = json!({"Name": "web", "Tags": ["a", "b"], "Size": 5, "None": null, "Config": {
            "Cmd": ["sh", "-c"], "Labels": {"x.y": "z", "a": "b"}}});
        Template::parse(template).and_then(|template| template.render(&data))
    }

    #[test]
    fn templates_make_what_go_makes() {
        for (template, text) in [
            ("plain", "plain"),
            ("{{.Name}}:{{ .Size }}", "web:5"),
            ("{{.name}}", "web"),
            ("{{.Config.Cmd}}", "[sh -c]"),
            ("{{.Config.Labels}}", "map[a:b x.y:z]"),
            ("{{json .Config.Cmd}}", "[\"sh\",\"-c\"]"),
            ("{{.Config.Cmd | json}}", "[\"sh\",\"-c\"]"),
            ("{{join .Tags \", \"}}", "a, b"),
            ("{{.Tags | len}} {{upper .Name}}", "2 WEB"),
            ("{{index .Config.Labels \"x.y\"}}{{index .Tags 1}}", "zb"),
            ("{{range .Tags}}<{{.}}{{$.Name}}>{{end}}", "<aweb><bweb>"),
            ("{{range .Tags}}{{println .}}{{end}}", "a\nb\n"),
            ("{{if .None}}x{{else}}y{{end}}{{if .Tags}}z{{end}}", "yz"),
            ("a\\t{{.Name}}\\n", "a\tweb\n"),
            ("a {{- .Name -}} b", "awebb"),
            ("{{.Config.Healthcheck.Test}}", ""),
            ("{{/* a remark */}}", ""),
            ("{{range .None}}x{{end}}", ""),
        ] {
            assert_eq!(made(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        for (template, says) in [
            ("{{.Name", "there is no }} behind"),
            ("{{.Nmae}}", "there is no field \"Nmae\", only Name, Tags"),
            ("{{template \"x\"}}", "is not known in a template"),
            ("{{with .Name}}{{end}}", "is not known in a template"),
            ("{{}}", "is not known in a template"),
            ("{{range .Tags}}", "range has no counterpart"),
            ("{{end}}", "end has no counterpart"),
            ("{{range .Name}}{{end}}", "range cannot use"),
            ("{{index .Tags 7}}", "index cannot use"),
            ("{{upper .Tags}}", "upper cannot use"),
            ("{{..}}", "is not known"),
            ("{{\"x}}", "is not known"),
        ] {
            let error = made(template).expect_err(template).to_string();
            assert!(error.contains(says), "{template}: {error}");
        }
        let deep = format!("{}{}", "{{if .Name}}".repeat(40), "{{end}}".repeat(40));
        assert_eq!(made(&deep), Err(TemplateError::Deep));
    }
}
