use super::*;

#[test]
fn takes_a_url_apart() {
    let mut url = Url::parse(
        "redis://us%40er:p%3Aw@[::1]:7000/3?ttl=5000&fair=0",
        &[("fair", "1")],
    )
    .unwrap();
    assert_eq!(
        (
            url.scheme.as_str(),
            url.host.as_str(),
            url.port,
            url.path.as_str()
        ),
        ("redis", "::1", Some(7000), "/3")
    );
    assert_eq!(url.user.as_deref(), Some("us@er"));
    assert_eq!(url.take_password().unwrap().unwrap().reveal(), "p:w");
    assert_eq!(
        url.take_millis("ttl").unwrap(),
        Some(Duration::from_secs(5))
    );
    assert_eq!(url.take_bool("fair").unwrap(), Some(true));
    url.finish().unwrap();
}

#[test]
fn members_are_listed_or_given_one_by_one() {
    let members = |text: &str| Url::parse(text, &[]).map(|mut url| url.take_members());
    let nested = "quorum:(redis://a/1?db=2,quorum:(shm:x,shm:y),memory:)?strategy=unanimous";
    assert_eq!(
        members(nested).unwrap(),
        ["redis://a/1?db=2", "quorum:(shm:x,shm:y)", "memory:"]
    );
    assert_eq!(
        members("quorum:?member=redis%3A%2F%2Fa%2Cb&member=memory:").unwrap(),
        ["redis://a,b", "memory:"]
    );
    for bad in ["quorum:(a:,b:", "quorum:(a:)b", "quorum:((a:,b:)"] {
        assert_eq!(members(bad).unwrap_err().code(), Code::InvalidUrl, "{bad}");
    }
    let url = Url::parse("quorum:(redis://u:canary@h,memory:)?x=1", &[]).unwrap();
    assert!(!format!("{url:?}").contains("canary"));
    assert!(!format!("{:?}", url.finish()).contains("canary"));
}

#[test]
fn unknown_and_duplicate_options_are_refused_with_hints() {
    let mut url = Url::parse("memory:?tll=1", &[]).unwrap();
    let _ = url.take("ttl");
    let error = url.finish().unwrap_err();
    assert_eq!(error.code(), Code::UnknownOption);
    assert!(error.message().contains("`ttl`"), "{error}");
    assert_eq!(
        Url::parse("memory:?a=1&a=2", &[]).unwrap_err().code(),
        Code::InvalidUrl
    );
}

#[test]
fn secrets_stay_out_of_debug_redaction_and_errors() {
    for text in [
        "redis://u:canary@h/0?password=canary2",
        "redis://canary@h:99999",
        "redis://h?canary%zz=1",
        ":canary",
        // A `/`, `?` or `&` that was not escaped, a forgotten `//`, `@` or host.
        "redis://u:12/canary@h/0",
        "redis://u:12?canary=3@h",
        "redis://h?password=a&canary=1",
        "redis:u:canary@h",
        "redis:/u:canary@h",
        "redis://u:canary:6379",
        "redis:u:canary?x@h/0?db=1",
        "redis::canary?3=4@h",
        "redis:/u:canary?x@h",
        "redis:canary?@h",
        "redis://:12/canary@h/@b",
    ] {
        match Url::parse(text, &[]) {
            Ok(url) => {
                assert!(!url.redacted().contains("canary"), "{}", url.redacted());
                assert!(!format!("{:?}", url.password).contains("canary"));
                if let Err(error) = url.finish() {
                    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
                }
            }
            Err(error) => assert!(!format!("{error:?}").contains("canary"), "{error:?}"),
        }
    }
}

#[test]
fn paths_and_host_lists_stay_readable() {
    for text in [
        "flock:/home/x/***@work/x",
        "flock:///home/***@work",
        "redis://a:1,b:2,c:3/0",
        "redis://***@h/0",
        "redis:/run/redis.sock",
        "shm:app",
    ] {
        let secret = if text.contains("flock") { "x" } else { ":x" };
        let whole = text.replace("***", secret);
        for query in ["", "?label=me@here"] {
            let url = Url::parse(&format!("{whole}{query}"), &[]).unwrap();
            assert_eq!(url.redacted(), text);
        }
    }
}

#[test]
fn a_password_stands_in_one_place_of_four() {
    let home = std::env::var("HOME").unwrap();
    let of = |text: &str| {
        let mut url = Url::parse(text, &[]).unwrap();
        let found = url.take_password().map_err(|error| error.code());
        found.map(|secret| secret.map(|secret| secret.reveal().to_owned()))
    };
    assert_eq!(of("redis://u@h"), Ok(None));
    for one in ["redis://:x@h", "redis://h?password=x"] {
        assert_eq!(of(one), Ok(Some("x".into())), "{one}");
    }
    assert_eq!(of("redis://h?password_env=HOME"), Ok(Some(home.clone())));
    for two in [
        "redis://:x@h?password=x",
        "redis://:x@h?password_env=HOME",
        "redis://h?password_env=HOME&password_file=/etc/hostname",
        "redis://h?password_env=SYNLOCK_NOT_SET",
    ] {
        assert_eq!(of(two), Err(Code::InvalidUrl), "{two}");
    }
    // Another's password, by the same three.
    let mut url = Url::parse("redis://:x@h?other_env=HOME", &[]).unwrap();
    let other = url.take_secret(None, ["other", "other_file", "other_env"]);
    assert_eq!(other.unwrap().unwrap().reveal(), home);
}

#[test]
fn a_password_beside_the_url_hides_what_may_be_its_rest() {
    let url = Url::parse("redis://h", &[("sentinel_password", "x"), ("canary", "1")]).unwrap();
    let error = url.finish().unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn password_files_are_small_regular_files() {
    for file in ["/dev/zero", "/proc/self", "/nowhere"] {
        let mut url = Url::parse(&format!("redis://h?password_file={file}"), &[]).unwrap();
        let error = url.take_password().unwrap_err();
        assert_eq!(error.code(), Code::InvalidUrl, "{file}");
    }
}
