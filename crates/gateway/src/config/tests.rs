use super::*;

fn read(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigProblem> {
    Config::read(file, |name| {
        environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_documented_file() {
    let file = r#"
        [gateway]
        listen = "127.0.0.1:8787"
        key = "env:OWUI_TRACKING_KEY"
        jwt_secret = "env:OWUI_TRACKING_JWT_SECRET"

        [[provider]]
        name = "OpenAI"
        kind = "openai"
        base_url = "https://api.openai.com/v1"
        api_key = "env:OPENAI_API_KEY"
    "#;
    let environment =
        [("OWUI_TRACKING_KEY", "k"), ("OWUI_TRACKING_JWT_SECRET", "s"), ("OPENAI_API_KEY", "sk-1")];
    let config = read(file, &environment).unwrap();
    assert_eq!(config.gateway.key, Some(Secret::new("k")));
    assert_eq!(config.gateway.jwt_secrets, [Secret::new("s")]);
    assert_eq!(config.providers[0].name.as_str(), "openai");
    assert!(config.database.is_none());
    assert!(!format!("{config:?}").contains("sk-1"));
    let missing = read(file, &environment[..2]).unwrap_err().to_string();
    assert!(missing.contains("OPENAI_API_KEY"), "{missing}");
}

#[test]
fn the_environment_alone_is_enough() {
    let config = read("", &[("OPENAI_API_KEY", "sk"), ("DATABASE_URL", "sqlite:///x.db")]).unwrap();
    assert_eq!(config.providers[0].base_url.as_str(), "https://api.openai.com/v1");
    assert!(config.database.is_some());
    let other =
        read("", &[("OPENAI_API_KEY", "sk"), ("OPENAI_API_BASE_URL", "http://vllm:8000/v1")]).unwrap();
    assert_eq!(other.providers[0].base_url.as_str(), "http://vllm:8000/v1");
}

#[test]
fn a_schema_goes_with_any_url() {
    let schema = |file: &str, more: &[(&str, &str)]| {
        let mut environment = vec![("DATABASE_URL", "postgresql://u:p@h/d")];
        environment.extend(more);
        read(file, &environment).unwrap().database.unwrap().schema().map(str::to_owned)
    };
    let file = "[database]\nschema = \"mine\"\n";
    let own = "[database]\nurl = \"postgresql://u:p@h/d\"\n";
    assert_eq!(schema(file, &[]).as_deref(), Some("mine"));
    assert_eq!(schema(file, &[("DATABASE_SCHEMA", "theirs")]).as_deref(), Some("mine"));
    assert_eq!(schema("", &[("DATABASE_SCHEMA", "theirs")]).as_deref(), Some("theirs"));
    assert_eq!(schema(own, &[("DATABASE_SCHEMA", "theirs")]).as_deref(), Some("theirs"));
    assert_eq!(schema("", &[]), None);
}

#[test]
fn the_environment_of_open_webui_is_understood() {
    let config = read("", &[("OLLAMA_BASE_URL", "/ollama")]).unwrap();
    assert_eq!(config.providers[0].base_url.as_str(), "http://localhost:11434/");
    let azure = [
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_API_BASE_URL", "https://x.openai.azure.com"),
        ("OPENAI_API_VERSION", "2024-10-21"),
    ];
    let config = read("", &azure).unwrap();
    assert_eq!(config.providers[0].options.api_version.as_deref(), Some("2024-10-21"));
    assert_eq!(config.open_providers().unwrap()[0].kind().entry().name, "azure");
}

#[test]
fn mistakes_are_named() {
    let provider = "[[provider]]\nname = \"a\"\nkind = \"openai\"\n";
    for (file, says) in [
        ("[gateway]\nlisten = \"0.0.0.0:1\"\n".to_owned(), "without a key"),
        ("[gateway]\nlisten = \"somewhere\"\n".to_owned(), "no address with a port"),
        ("[gateway]\nkee = \"x\"\n".to_owned(), "kee"),
        ("[gatway]\n".to_owned(), "gatway"),
        ("[gateway\n".to_owned(), "line 1"),
        ("[gateway]\ndrain = 100000\n".to_owned(), "at most"),
        (provider.replace("openai", "telepathy"), "telepathy"),
        (format!("{provider}{}", provider.replace("\"a\"", "\"A\"")), "two providers"),
        (format!("{provider}base_url = \"nowhere\"\n"), "base_url"),
        ("[database]\nurl = \"mysql://x\"\n".to_owned(), "mysql"),
    ] {
        let problem = read(&file, &[]).unwrap_err().to_string();
        assert!(problem.contains(says), "{file}: {problem}");
    }
}

#[test]
fn an_empty_secret_is_an_error_wherever_it_is_written() {
    let provider = "[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_key = ";
    for place in [
        "[gateway]\nkey = ",
        "[gateway]\njwt_secret = ",
        "[gateway]\njwt_secret_next = ",
        "[gateway]\nmetrics_key = ",
        provider,
    ] {
        for (text, environment) in [
            ("\"\"", &[][..]),
            ("\"  \\t\"", &[]),
            ("\"env:SECRET\"", &[("SECRET", "")]),
            ("\"env:SECRET\"", &[("SECRET", " \n")]),
        ] {
            let problem = read(&format!("{place}{text}\n"), environment).unwrap_err().to_string();
            assert!(
                problem.contains("empty") && problem.contains("leave the line out"),
                "{place}{text}: {problem}"
            );
        }
    }
    for variable in ["OWUI_TRACKING_KEY", "OWUI_TRACKING_JWT_SECRET"] {
        let problem = read("", &[(variable, " ")]).unwrap_err().to_string();
        assert!(problem.contains(variable) && problem.contains("remove the variable"), "{problem}");
        assert!(read("", &[(variable, "")]).is_err());
    }
    // As images of Open WebUI set it where it has no meaning.
    assert_eq!(read("", &[("OPENAI_API_KEY", "")]).unwrap().providers.len(), 0);
}

#[test]
fn short_keys_where_others_can_reach_the_gateway() {
    let with = |listen: &str, key: &str| {
        read(&format!("[gateway]\nlisten = \"{listen}:1\"\nkey = \"{key}\"\n"), &[])
    };
    let refused = with("0.0.0.0", "k234567").unwrap_err().to_string();
    assert!(refused.contains("7 character") && !refused.contains("k234567"), "{refused}");
    assert!(with("[::]", "kkkk").is_err());
    assert_eq!(with("127.0.0.1", "k").unwrap().warnings, [""; 0]);
    assert!(with("0.0.0.0", "k2345678").unwrap().warnings[0].contains("gateway.key"));
    assert_eq!(with("0.0.0.0", "k234567812345678").unwrap().warnings, [""; 0]);
    let signed = read("", &[("OWUI_TRACKING_JWT_SECRET", "short")]).unwrap();
    assert!(signed.warnings[0].contains("signing secret"));
}

#[test]
fn a_key_that_no_request_can_bring_is_an_error() {
    for key in ["key ", " key", "key\\n", "schlüssel"] {
        let problem = read(&format!("[gateway]\nkey = \"{key}\"\n"), &[]).unwrap_err().to_string();
        assert!(problem.contains("gateway.key") && !problem.contains("schl"), "{problem}");
    }
    assert!(read("[gateway]\nkey = \"three plain words\"\n", &[]).is_ok());
}

#[test]
fn pages_that_may_ask() {
    let config = read("[gateway]\nallowed_origins = [\"https://app.example.org\"]\n", &[]).unwrap();
    assert_eq!(config.gateway.allowed_origins, [AllowedOrigin::new("https://app.example.org").unwrap()]);
    assert!(read("[gateway]\nallowed_origins = [\"*\"]\n", &[]).is_err());
}

#[test]
fn hosts_that_may_be_named() {
    let config = read("[gateway]\nallowed_hosts = [\"Tracking.example.org\"]\n", &[]).unwrap();
    assert_eq!(config.gateway.allowed_hosts, [AllowedHost::new("tracking.example.org").unwrap()]);
    assert!(read("[gateway]\nallowed_hosts = [\"http://a.example\"]\n", &[]).is_err());
}

#[test]
fn what_else_a_provider_may_have() {
    let provider = "[[provider]]\nname = \"a\"\nkind = \"anthropic\"\napi_key = \"k\"\n";
    let with = |lines: &str, environment: &[(&str, &str)]| {
        read(&format!("{provider}{lines}\n"), environment).map(|config| config.providers[0].options.clone())
    };
    assert_eq!(with("", &[]).unwrap(), ProviderOptions::default());
    let all = "stream_options = false\ncache_in_input = true\nheaders = { X-Team = \"a b\", X-Key = \"env:HEADER\" }";
    let options = with(all, &[("HEADER", "s3cr3t")]).unwrap();
    assert_eq!((options.stream_options, options.cache_in_input), (Some(false), Some(true)));
    let headers = [("X-Key".to_owned(), Secret::new("s3cr3t")), ("X-Team".to_owned(), Secret::new("a b"))];
    assert_eq!(options.headers, headers);
    assert!(!format!("{options:?}").contains("s3cr3t"));
    for (lines, environment, says) in [
        (all, &[][..], "HEADER"),
        (all, &[("HEADER", "")], "HEADER, which is empty"),
        ("headers = { X-Key = \" \" }", &[], "X-Key of provider a is empty"),
        ("headers = { X-Key = \"s3cr3t\\n\" }", &[], "X-Key of provider a has characters"),
        ("stream_options = \"no\"", &[], "stream_options"),
    ] {
        let problem = with(lines, environment).unwrap_err().to_string();
        assert!(problem.contains(says), "{lines}: {problem}");
    }
    let ours = read(&format!("{provider}headers = {{ Authorization = \"s3cr3t\" }}\n"), &[]).unwrap();
    let problem = ours.open_providers().unwrap_err().to_string();
    assert!(problem.contains("provider a") && problem.contains("`authorization`"), "{problem}");
    assert!(!problem.contains("s3cr3t"), "{problem}");
}

#[test]
fn streams_wait_and_get_comments_as_configured_but_none_for_pipes() {
    let waits = |file: &str| {
        let gateway = Config::read(file, |_| None).unwrap().gateway;
        (gateway.head_wait.as_secs(), gateway.keep_alive.as_secs())
    };
    assert_eq!(waits(""), (15, 15));
    assert_eq!(waits("[gateway]\nhead_wait = 0\nkeep_alive = 30\n"), (0, 30));
    assert!(Config::read("[gateway]\nkeep_alive = 100000\n", |_| None).is_err());
    let private = GatewayConfig::private(Secret::new("k"), |_| None);
    assert!(private.keep_alive.is_zero() && !private.head_wait.is_zero());
}

#[test]
fn mistyped_keys_and_kinds_are_answered_with_the_nearest_and_no_secret_is_quoted() {
    for (file, says) in [
        ("[gateway]\nlissten = \"sk-secret\"", "line 2 (lissten): unknown field `lissten`"),
        ("[gateway]\nlissten = \"sk-secret\"", "did you mean `listen`?"),
        ("[gatway]\nkey = \"sk-secret\"", "did you mean `gateway`?"),
        ("[gateway.headers]\nuser_jtw = \"sk-secret\"", "did you mean `user_jwt`?"),
        ("[[provider]]\nname = \"a\"\nkind = \"opnai\"\napi_key = \"sk-secret\"", "did you mean `openai`?"),
        ("[[provider]]\nname = \"a\"\nkind = \"openai\"\n\napi_kye = \"sk-secret\"", "line 5 (api_kye): "),
        ("[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_kye = \"sk-secret\"", "did you mean `api_key`?"),
        ("[gateway]\nkey = \"sk-secret", "line 2 (key): "),
    ] {
        let said = read(file, &[]).unwrap_err().to_string();
        assert!(said.contains(says), "{file}: {said}");
        assert!(!said.contains("sk-secret"), "{said}");
    }
}
