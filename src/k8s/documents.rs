//! From the bytes of a manifest to the objects in it, as kubectl would read them: several documents a file, lists of all
//! sorts, other kinds in between.
//!
//! Read twice: first only what each document is, then each with its own type. So a foreign kind can have any shape, and a
//! mistake in one of ours is reported with its place.

use super::allocation::{Allocation, VERSION as ALLOCATION_VERSION};
use super::convert::{NodeObject, ServiceObject, SliceObject};
use super::object::Kind;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeSet;
use std::fmt;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.json`.
    Json,
}

impl Format {
    /// By the file name's ending; `None` for a file that is no manifest. Hidden files are none: editors and ConfigMap
    /// volumes keep their own affairs there.
    pub fn of(file: &str) -> Option<Self> {
        let (stem, ending) = file.rsplit_once('.')?;
        match ending {
            "yaml" | "yml" if !stem.is_empty() && !file.starts_with('.') => Some(Self::Yaml),
            "json" if !stem.is_empty() && !file.starts_with('.') => Some(Self::Json),
            _ => None,
        }
    }
}

/// One object of ours.
#[derive(Debug, Clone)]
pub enum Document {
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    EndpointSlice(SliceObject),
    /// A Node.
    Node(NodeObject),
    /// An `Allocation`.
    Allocation(Box<Allocation>),
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Our objects, in the order of the file.
    pub documents: Vec<Document>,
    /// The other kinds, as `apiVersion kind`.
    pub foreign: BTreeSet<String>,
}

/// Why a file cannot be read, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads a file.
///
/// # Errors
/// [`Fault`] where it is not YAML or JSON, where a document has no kind, or where an object of ours has a field of the
/// wrong shape. Fields that decide nothing here are not looked at.
pub fn decode(bytes: &[u8], format: Format) -> Result<Contents, Fault> {
    match format {
        Format::Json => decode_json(bytes),
        Format::Yaml => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                Fault { line, column: 1, what: "this is not UTF-8 text".to_owned() }
            })?;
            decode_yaml(text)
        }
    }
}

fn decode_json(bytes: &[u8]) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    let mut sketches = serde_json::Deserializer::from_slice(bytes);
    let mut documents = serde_json::Deserializer::from_slice(bytes);
    while sketches.end().is_err() {
        let sketch = Sketch::deserialize(&mut sketches).map_err(|error| json_fault(&error))?;
        let what = What::of(sketch, Unnamed::Refused).map_err(|what| Fault { line: 1, column: 1, what })?;
        what.collect_foreign(&mut contents.foreign);
        DocumentSeed { what: &what, out: &mut contents.documents }
            .deserialize(&mut documents)
            .map_err(|error| json_fault(&error))?;
    }
    Ok(contents)
}

fn json_fault(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned();
    Fault { line: error.line(), column: error.column().max(1), what }
}

fn decode_yaml(text: &str) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    for (first_line, document) in yaml_documents(text) {
        let fault = |error: &serde_saphyr::Error| yaml_fault(error, first_line);
        let sketch =
            serde_saphyr::with_deserializer_from_str_with_options(document, options(document), |deserializer| {
                Sketch::deserialize(deserializer)
            })
            .map_err(|error| fault(&error))?;
        let what =
            What::of(sketch, Unnamed::Refused).map_err(|what| Fault { line: first_line + 1, column: 1, what })?;
        what.collect_foreign(&mut contents.foreign);
        serde_saphyr::with_deserializer_from_str_with_options(document, options(document), |deserializer| {
            DocumentSeed { what: &what, out: &mut contents.documents }.deserialize(deserializer)
        })
        .map_err(|error| fault(&error))?;
    }
    Ok(contents)
}

/// The documents of a stream with the number of lines before each. A line that begins with `---` always ends a document
/// (YAML 1.2 §9.1.2), also inside a block scalar. Documents of comments and directives alone are dropped.
fn yaml_documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut begin, mut first_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((first_line, &text[begin..offset]));
            // What follows the marker on its line belongs to the new document; the marker stays with it.
            (begin, first_line) = (offset, number);
        }
        offset += line.len();
    }
    documents.push((first_line, &text[begin..]));
    documents.retain(|(_, document)| {
        document.lines().any(|line| {
            let line = line.strip_prefix("---").unwrap_or(line).trim_start();
            !(line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "...")
        })
    });
    documents
}

/// Limits that follow the size of the document: it is the operator's own file, and a list of all services may be long.
/// The limits on aliases stay, so that a small file cannot become a large one.
fn options(document: &str) -> serde_saphyr::Options {
    let size = document.len() + 1024;
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: size.saturating_mul(3),
            max_nodes: size,
            max_total_scalar_bytes: size,
        },
    }
}

fn yaml_fault(error: &serde_saphyr::Error, lines_before: usize) -> Fault {
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let text = error.to_string();
    // Its text may name the place, counted from the document's own first line; ours counts from the file's.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned();
    let number = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).max(1);
    Fault { line: lines_before.saturating_add(number(line)), column: number(column), what }
}

/// What a document is.
#[derive(Debug, PartialEq, Eq)]
enum What {
    Nothing,
    Ours(Kind),
    List(Vec<What>),
    Foreign(String),
}

/// The kind of an object that names none itself.
#[derive(Debug, Clone, Copy)]
enum Unnamed {
    /// Such an object is a mistake.
    Refused,
    /// The items of a typed list (`ServiceList`) need not repeat what they are.
    Is(Kind),
}

impl What {
    fn of(sketch: Sketch, unnamed: Unnamed) -> Result<Self, String> {
        let (api_version, kind, items) = match sketch {
            Sketch::Map { api_version, kind, items } => (api_version, kind, items),
            Sketch::Null => return Ok(Self::Nothing),
            Sketch::Text(_) | Sketch::Sequence(_) | Sketch::Other => {
                return Err("this is no Kubernetes object: write apiVersion, kind, metadata and so on".to_owned());
            }
        };
        let list = |unnamed| items.into_iter().map(|item| Self::of(item, unnamed)).collect::<Result<_, _>>();
        match (api_version.as_str(), kind.as_str(), unnamed) {
            ("", "", Unnamed::Is(kind)) => Ok(Self::Ours(kind)),
            (_, "", _) | ("", _, _) => {
                Err("an object says no apiVersion or no kind: a Service is 'apiVersion: v1' and \
                                            'kind: Service', an EndpointSlice is of 'apiVersion: discovery.k8s.io/v1'"
                    .to_owned())
            }
            ("v1", "Service", _) => Ok(Self::Ours(Kind::Service)),
            ("v1", "Node", _) => Ok(Self::Ours(Kind::Node)),
            ("discovery.k8s.io/v1", "EndpointSlice", _) => Ok(Self::Ours(Kind::EndpointSlice)),
            (ALLOCATION_VERSION, "Allocation", _) => Ok(Self::Ours(Kind::Allocation)),
            ("v1", "List", _) => list(Unnamed::Refused).map(Self::List),
            ("v1", "ServiceList", _) => list(Unnamed::Is(Kind::Service)).map(Self::List),
            ("v1", "NodeList", _) => list(Unnamed::Is(Kind::Node)).map(Self::List),
            ("discovery.k8s.io/v1", "EndpointSliceList", _) => list(Unnamed::Is(Kind::EndpointSlice)).map(Self::List),
            (ALLOCATION_VERSION, "AllocationList", _) => list(Unnamed::Is(Kind::Allocation)).map(Self::List),
            (_, _, _) => Ok(Self::Foreign(format!("{api_version} {kind}"))),
        }
    }

    fn collect_foreign(&self, foreign: &mut BTreeSet<String>) {
        match self {
            Self::Nothing | Self::Ours(_) => {}
            Self::Foreign(name) => {
                if !foreign.contains(name) {
                    foreign.insert(name.clone());
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.collect_foreign(foreign)),
        }
    }
}

/// A value of any shape, of which only what [`What`] needs is kept.
enum Sketch {
    Null,
    Text(String),
    Sequence(Vec<Sketch>),
    Map { api_version: String, kind: String, items: Vec<Sketch> },
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    ApiVersion,
    Kind,
    Items,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SketchVisitor)
    }
}

struct SketchVisitor;

impl<'de> Visitor<'de> for SketchVisitor {
    type Value = Sketch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sketch, A::Error> {
        let (mut api_version, mut kind, mut items) = (String::new(), String::new(), Vec::new());
        while let Some(field) = map.next_key::<Field>()? {
            match (&field, map_value(&field, &mut map)?) {
                (Field::ApiVersion, Sketch::Text(text)) => api_version = text,
                (Field::Kind, Sketch::Text(text)) => kind = text,
                (Field::Items, Sketch::Sequence(sequence)) => items = sequence,
                (Field::ApiVersion | Field::Kind | Field::Items | Field::Other, _) => {}
            }
        }
        Ok(Sketch::Map { api_version, kind, items })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Sketch, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Sketch::Sequence(items))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sketch, E> {
        Ok(Sketch::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Sketch, E> {
        Ok(Sketch::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Sketch, E> {
        Ok(Sketch::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Sketch, E> {
        Ok(Sketch::Null)
    }
}

/// The value of a field: sketched where it is one that decides, skipped otherwise.
fn map_value<'de, A: MapAccess<'de>>(field: &Field, map: &mut A) -> Result<Sketch, A::Error> {
    match field {
        Field::ApiVersion | Field::Kind | Field::Items => map.next_value(),
        Field::Other => map.next_value::<IgnoredAny>().map(|_| Sketch::Other),
    }
}

/// Reads a document whose nature is known.
struct DocumentSeed<'a> {
    what: &'a What,
    out: &'a mut Vec<Document>,
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.what {
            What::Nothing | What::Foreign(_) => IgnoredAny::deserialize(deserializer).map(|_| ()),
            What::List(items) => deserializer.deserialize_map(ListVisitor { items, out: self.out }),
            What::Ours(kind) => {
                self.out.push(match kind {
                    Kind::Service => Document::Service(ServiceObject::deserialize(deserializer)?),
                    Kind::EndpointSlice => Document::EndpointSlice(SliceObject::deserialize(deserializer)?),
                    Kind::Node => Document::Node(NodeObject::deserialize(deserializer)?),
                    Kind::Allocation => Document::Allocation(Box::new(Allocation::deserialize(deserializer)?)),
                });
                Ok(())
            }
        }
    }
}

struct ListVisitor<'a> {
    items: &'a [What],
    out: &'a mut Vec<Document>,
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Items if !self.items.is_empty() => {
                    map.next_value_seed(ItemsSeed { items: self.items, out: &mut *self.out })?;
                }
                Field::Items | Field::ApiVersion | Field::Kind | Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct ItemsSeed<'a> {
    items: &'a [What],
    out: &'a mut Vec<Document>,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        for what in self.items {
            let seed = DocumentSeed { what, out: &mut *self.out };
            if sequence.next_element_seed(seed)?.is_none() {
                break;
            }
        }
        // Both readings see the same items; this also lets the parser see the end of the sequence.
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(contents: &Contents) -> Vec<String> {
        let named = contents.documents.iter().map(|document| match document {
            Document::Service(object) => ("Service", &object.metadata),
            Document::EndpointSlice(object) => ("EndpointSlice", &object.metadata),
            Document::Node(object) => ("Node", &object.metadata),
            Document::Allocation(object) => ("Allocation", &object.metadata),
        });
        named.map(|(kind, metadata)| format!("{kind} {}", metadata.name.as_deref().unwrap_or("?"))).collect()
    }

    #[test]
    fn several_documents_lists_and_foreign_kinds() {
        let text = "# a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nspec: 7\nitems: {strange: true}\n--- # next\n\
                    apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n1}\n\
                    - {apiVersion: serving.knative.dev/v1, kind: Service, metadata: 3}\n---\napiVersion: v1\n\
                    kind: ServiceList\nitems:\n- metadata: {name: b}\n...\n---\n";
        let contents = decode(text.as_bytes(), Format::Yaml).unwrap();
        assert_eq!(names(&contents), ["Service a", "Node n1", "Service b"]);
        let foreign: Vec<_> = contents.foreign.iter().map(String::as_str).collect();
        assert_eq!(foreign, ["apps/v1 Deployment", "serving.knative.dev/v1 Service"]);
    }

    #[test]
    fn json_in_a_row_and_with_the_kind_last() {
        let text = r#"{"items":[{"metadata":{"name":"s"},"endpoints":null,"kind":"EndpointSlice",
            "apiVersion":"discovery.k8s.io/v1"},{"metadata":{"name":"n"},"apiVersion":"v1","kind":"Node"}],
            "kind":"List","apiVersion":"v1"} {"apiVersion":"v1","kind":"Service","metadata":{"name":"x"}}"#;
        let contents = decode(text.as_bytes(), Format::Json).unwrap();
        assert_eq!(names(&contents), ["EndpointSlice s", "Node n", "Service x"]);
    }

    #[test]
    fn mistakes_are_reported_with_their_place_in_the_file() {
        let place = |text: &str, format| {
            let fault = decode(text.as_bytes(), format).unwrap_err();
            println!("{fault}");
            (fault.line, fault.column)
        };
        let second = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n---\napiVersion: v1\nkind: Service\n";
        let shape = format!("{second}metadata: {{name: a}}\nspec:\n  type: [1, 2]\n");
        assert_eq!(place(&shape, Format::Yaml), (9, 9));
        assert_eq!(place(&format!("{second}metadata: {{name: a\nspec: x\n"), Format::Yaml).0, 8);
        assert_eq!(place("apiVersion: v1\n---\nkind: Node\n", Format::Yaml).0, 1);
        assert_eq!(place("{\n \"apiVersion\": \"v1\",\n \"kind\": \"Node\"\n", Format::Json).0, 4);
        let number = "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n\"metadata\":{\"name\":5}}";
        assert_eq!(place(number, Format::Json).0, 2);
        assert_eq!(place("[1]", Format::Json), (1, 1));
        assert_eq!(decode(b"a: 1\nb: \xff\n", Format::Yaml).unwrap_err().line, 2);
    }

    #[test]
    fn a_long_yaml_list_is_within_the_limits_and_an_alias_bomb_is_not() {
        let item = "- apiVersion: v1\n  kind: Service\n  metadata: {name: a, labels: {a: b, c: d}}\n";
        let text = format!("apiVersion: v1\nkind: List\nitems:\n{}", item.repeat(20_000));
        assert_eq!(decode(text.as_bytes(), Format::Yaml).unwrap().documents.len(), 20_000);
        let mut bomb = "apiVersion: v1\nkind: ConfigMap\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{},", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(decode(bomb.as_bytes(), Format::Yaml).is_err());
    }

    #[test]
    fn which_files_are_manifests() {
        assert_eq!(Format::of("a.yaml"), Some(Format::Yaml));
        assert_eq!(Format::of("a.b.yml"), Some(Format::Yaml));
        assert_eq!(Format::of("a.json"), Some(Format::Json));
        for other in [".a.yaml", ".yaml", "a.yaml~", "a.yaml.swp", "a.txt", "yaml"] {
            assert_eq!(Format::of(other), None, "{other}");
        }
    }
}
