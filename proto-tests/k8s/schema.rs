//! What the CustomResourceDefinition accepts is read: objects are made by its schema, at random.

use herald::k8s::allocation::{Allocation, CRDS, name, record};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// A value of a schema: every type, limit and pattern that ours has. A keyword that is not known here fails.
fn value(schema: &Value) -> BoxedStrategy<Value> {
    let known = [
        "type",
        "properties",
        "required",
        "description",
        "maxLength",
        "pattern",
        "format",
        "enum",
        "minItems",
        "maxItems",
        "items",
        "minimum",
        "maximum",
        "x-kubernetes-validations",
    ];
    let keywords = schema.as_object().unwrap();
    assert!(keywords.keys().all(|keyword| known.contains(&keyword.as_str())), "{keywords:?}");
    match (schema["type"].as_str().unwrap(), &schema["enum"], &schema["pattern"]) {
        ("object", _, _) => object(schema),
        ("array", _, _) => {
            let fewest = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
            vec(value(&schema["items"]), fewest..fewest + 3).prop_map(Value::from).boxed()
        }
        ("integer", _, _) => {
            let (least, most) = (schema["minimum"].as_u64().unwrap(), schema["maximum"].as_u64().unwrap());
            // JSON knows one sort of number, and so does the API server.
            prop_oneof![(least..=most).prop_map(Value::from), (least..=most).prop_map(|n| json!(n as f64))].boxed()
        }
        ("string", Value::Array(words), _) => prop::sample::select(words.clone()).boxed(),
        ("string", _, Value::String(pattern)) => {
            let text = string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap();
            let dated = schema["format"] == "date-time";
            text.prop_filter("a day of the calendar, as the API server looks too", move |text| {
                !dated || text.get(..10).is_some_and(|day| day.parse::<jiff::civil::Date>().is_ok())
            })
            .prop_map(Value::from)
            .boxed()
        }
        ("string", _, _) => {
            let longest = usize::try_from(schema["maxLength"].as_u64().unwrap_or(2_000)).unwrap();
            prop_oneof![
                string_regex("[a-z0-9.=-]{0,12}").unwrap(),
                string_regex(&format!(".{{0,{}}}", longest.min(64))).unwrap()
            ]
            .prop_map(Value::from)
            .boxed()
        }
        (other, _, _) => panic!("{other}"),
    }
}

fn object(schema: &Value) -> BoxedStrategy<Value> {
    let required = |name: &String| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let mut fields = Just(Map::new()).boxed();
    for (name, of) in schema["properties"].as_object().unwrap() {
        let (name, field) = (name.clone(), value(of));
        let field = if required(&name) { field.prop_map(Some).boxed() } else { option::of(field).boxed() };
        fields = (fields, field)
            .prop_map(move |(mut fields, field)| {
                fields.extend(field.map(|field| (name.clone(), field)));
                fields
            })
            .boxed();
    }
    fields.prop_map(Value::Object).boxed()
}

fn spec() -> BoxedStrategy<Value> {
    let crd: Value = serde_saphyr::from_str(CRDS).unwrap();
    let spec = value(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
    // The schema's own rule: an address is held, or it was released.
    (spec.clone(), spec)
        .prop_map(|(mut spec, other)| {
            let fields = spec.as_object_mut().unwrap();
            for name in ["holders", "released"] {
                if !fields.contains_key(name) {
                    fields.extend(other.get(name).map(|field| (name.to_owned(), field.clone())));
                }
            }
            if fields.contains_key("holders") && fields.contains_key("released") {
                let held = fields["address"].as_str().unwrap().len() % 2 == 0;
                fields.remove(if held { "released" } else { "holders" });
            }
            spec
        })
        .prop_filter("held or released", |spec| spec.get("holders").is_some() != spec.get("released").is_some())
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_the_definition_accepts_is_read(spec in spec()) {
        let address = spec["address"].as_str().unwrap().parse::<IpAddr>();
        prop_assert!(address.is_ok(), "{}", spec["address"]);
        let object = json!({"apiVersion": "herald.bgp/v1alpha1", "kind": "Allocation",
                            "metadata": {"name": name(address.unwrap())}, "spec": spec});
        let read = serde_json::from_value::<Allocation>(object).map_err(|error| error.to_string());
        prop_assert!(read.is_ok(), "{read:?}");
        let record = record(&read.unwrap());
        prop_assert!(record.is_ok(), "{record:?}");
    }
}
