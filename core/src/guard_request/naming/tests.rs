use super::*;
use crate::Code;
use serde_json::Value;

/// The committed vectors of the peer's own code.
fn rows(file: &str) -> Vec<Value> {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["rows"].as_array().unwrap().clone()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap())
        .collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn check_vectors(file: &str, dialect: Dialect) -> usize {
    let rows = rows(file);
    for row in &rows {
        let given = &row["name"];
        let route = text(&given["controller"]).unwrap();
        let params: Vec<(String, String)> = given["routeParams"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value).unwrap()))
            .collect();
        let params: Vec<(&[u8], &[u8])> = params
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
            .collect();
        let token = text(&given["token_serialized_hex"])
            .map(|hex| unhex(&hex))
            .or_else(|| text(&given["token"]).map(String::into_bytes));
        let path = match text(&row["expect"]["path_info"]) {
            Some(path) => path,
            None => text(&given["path"]).unwrap(),
        };
        let request = Request {
            route: route.as_bytes(),
            path: path.as_bytes(),
            params: &params,
            user: if given["tokenStorage"] == true {
                User::Anonymous
            } else {
                User::NoSource
            },
            token: token.as_deref(),
            ..Request::default()
        };
        let policy = Policy {
            name: text(&given["template"]).map(String::into_bytes),
            user_isolation: given["userIsolation"] == true,
            ..Policy::default()
        };
        let made = name(dialect, &policy, &request);
        match text(&row["expect"]["lock_name"]) {
            Some(expected) => {
                assert_eq!(String::from_utf8(made.unwrap()).unwrap(), expected, "{row}")
            }
            None => {
                assert!(row["expect"]["error"].is_string(), "{row}");
                assert_eq!(made.unwrap_err().code(), Code::InvalidArgument, "{row}");
            }
        }
    }
    rows.len()
}

#[test]
fn names_are_those_of_ixarlie_before_2() {
    assert_eq!(check_vectors("ixarlie_pre20.json", Dialect::Ixarlie), 21);
}

#[test]
fn names_are_those_of_ixarlie_2_1() {
    assert_eq!(check_vectors("ixarlie_21.json", Dialect::Ixarlie2), 12);
}

fn native(policy: &Policy, request: &Request<'_>) -> String {
    String::from_utf8(name(Dialect::Native, policy, request).unwrap()).unwrap()
}

fn template(name: &str) -> Policy {
    Policy {
        name: Some(name.into()),
        ..Policy::default()
    }
}

#[test]
fn names_come_from_the_template_or_from_route_and_path() {
    let request = Request {
        route: b"App\\Order::pay",
        path: b"/orders/17/pay",
        params: &[(b"id", b"17")],
        ..Request::default()
    };
    assert_eq!(native(&template("order_{id}"), &request), "order_17");
    assert_eq!(
        native(&template(""), &request),
        "App\\Order::pay /orders/17/pay"
    );
    assert_eq!(
        native(&Policy::default(), &request),
        "App\\Order::pay /orders/17/pay"
    );
    let missing = name(Dialect::Native, &template("order_{no}"), &request).unwrap_err();
    assert!(missing.message().contains("{no}"), "{missing}");
    let nothing = name(Dialect::Native, &Policy::default(), &Request::default()).unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
}

#[test]
fn users_are_kept_apart_and_one_user_is_one() {
    let policy = Policy {
        user_isolation: true,
        ..template("pay")
    };
    let of = |provider: &'static [u8], id: &'static [u8]| {
        let request = Request {
            user: User::Known { provider, id },
            ..Request::default()
        };
        native(&policy, &request)
    };
    assert_eq!(of(b"main", b"bob@x"), "pay@main/bob%40x");
    assert_eq!(of(b"main", b"bob"), of(b"main", b"bob"));
    let names = [
        of(b"main", b"bob"),
        of(b"main", b"Bob"),
        of(b"admin", b"bob"),
        of(b"", b"main/bob"),
        of(b"main/b", b"ob"),
        of(b":session", b"x"),
        of(b"~anonymous", b""),
        of(b":anonymous", b""),
    ];
    for (at, one) in names.iter().enumerate() {
        assert!(names[at + 1..].iter().all(|other| one != other), "{one}");
    }
}

#[test]
fn nobody_is_refused_unless_the_policy_says_what_is_meant() {
    let made = |anonymous, request: &Request<'_>| {
        let policy = Policy {
            user_isolation: true,
            anonymous,
            ..template("pay")
        };
        name(Dialect::Native, &policy, request).map(|name| String::from_utf8(name).unwrap())
    };
    let nobody = Request {
        user: User::Anonymous,
        session: Some(b"secret"),
        ip: Some(b"::1"),
        ..Request::default()
    };
    let refused = made(Anonymous::Refuse, &nobody).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("nobody is logged in"),
        "{refused}"
    );
    assert_eq!(made(Anonymous::Share, &nobody).unwrap(), "pay@:anonymous");
    assert_eq!(made(Anonymous::Ip, &nobody).unwrap(), "pay@:ip/%3A%3A1");
    let session = made(Anonymous::Session, &nobody).unwrap();
    assert!(session.starts_with("pay@:session/"), "{session}");
    assert!(!session.contains("secret"), "{session}");

    // No session and no address: not everybody's lock.
    let bare = Request {
        user: User::Anonymous,
        ..Request::default()
    };
    assert!(made(Anonymous::Session, &bare).is_err());
    assert!(made(Anonymous::Ip, &bare).is_err());
    // No users at all: an error whatever is chosen.
    for anonymous in Anonymous::ALL {
        assert!(made(*anonymous, &Request::default()).is_err());
    }
}

#[test]
fn labels_fit() {
    let long = "ü".repeat(200);
    let request = Request {
        route: b"GET",
        path: long.as_bytes(),
        ..Request::default()
    };
    assert!(request.label().len() <= 255);
    assert!(request.label().starts_with("request GET ü"));
}
