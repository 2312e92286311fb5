//! Tests that secrets are masked in escaped, coloured or encoded output.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const QUOTED: &str = "it's a \"s3cr3t\" & <more>\\$HOME";

fn masker(value: &str) -> Arc<Masker> {
    let mut secrets = Secrets::new(&[]);
    secrets.add("S", value);
    Arc::new(Masker::new(secrets))
}

/// Asserts that a spelling of a value is masked as a whole, also if it arrives byte by byte or in any two pieces.
#[track_caller]
fn assert_masked(value: &str, spelling: &str) {
    let masker = masker(value);
    let text = format!("<{spelling}>");
    assert_eq!(masker.mask_text(&text), "<***S***>", "{text}");
    let mut stream = MaskedStream::new(Arc::clone(&masker));
    let mut shown: Vec<u8> = text.bytes().flat_map(|byte| stream.push(vec![byte])).collect();
    shown.extend(stream.finish());
    assert_eq!(String::from_utf8_lossy(&shown), "<***S***>", "{text} byte by byte");
    for at in 0..=text.len() {
        let mut stream = MaskedStream::new(Arc::clone(&masker));
        let mut shown = stream.push(text.as_bytes()[..at].to_vec());
        shown.extend(stream.push(text.as_bytes()[at..].to_vec()));
        shown.extend(stream.finish());
        assert_eq!(String::from_utf8_lossy(&shown), "<***S***>", "{text} cut at {at}");
    }
}

/// Returns `text` inside `depth` nested JSON strings.
fn in_json(text: &str, depth: usize) -> String {
    (0..depth).fold(text.to_owned(), |text, _| {
        let quoted = serde_json::to_string(&text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    })
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn the_strings_of_a_json_document_are_masked_as_a_program_reads_them() {
    let document = "{\n  \"type\": \"service_account\",\n  \"project_id\": \"shop-123456\",\n  \
        \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg+kqhkiG9w0\\nBAQEFAASCBKcwggSj\\n-----END PRIVATE KEY-----\\n\",\n  \
        \"client_email\": \"robot@shop-123456.example\",\n  \"token_uri\": \"https://oauth2.example/token\",\n  \
        \"installed\": {\"client_secret\": \"GOCSPX-4bcDEF\\u002dgh\", \"redirect_uris\": [\"http://localhost\"]},\n  \
        \"database\": [{\"password\": \"production\", \"url\": \"amqp://me:r4bb1t-hole@mq\"}]\n}";
    let masker = masker(document);
    assert_eq!(masker.mask_text(&format!("<{document}>")), "<***S***>");
    let key =
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg+kqhkiG9w0\nBAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----";
    for secret in [
        key,
        "MIIEvQIBADANBg+kqhkiG9w0",
        "BAQEFAASCBKcwggSj",
        "GOCSPX-4bcDEF-gh",
        "production",
        "r4bb1t-hole",
    ] {
        assert_eq!(masker.mask_text(&format!("<{secret}>")), "<***S***>", "{secret}");
    }
    for setting in [
        "service_account",
        "shop-123456",
        "robot@shop-123456.example",
        "https://oauth2.example/token",
        "http://localhost",
    ] {
        assert_eq!(masker.mask_text(setting), setting);
    }
}

#[test]
fn the_decoded_password_of_an_address_is_masked() {
    let masker = masker("postgres://me:p%40ss%2Fw0rd1@db/shop");
    for password in ["p@ss/w0rd1", "p%40ss%2Fw0rd1", "p%40ss%2fw0rd1"] {
        assert_eq!(masker.mask_text(&format!("me {password} db")), "me ***S*** db");
    }
}

#[test]
fn a_value_with_spaces_around_it_is_masked_without_them() {
    assert_eq!(masker("  s3cr3t-value ").mask_text("<s3cr3t-value>"), "<***S***>");
}

#[test]
fn a_token_that_stands_for_the_user_of_an_address_is_masked() {
    let token = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    for address in [
        format!("https://{token}@github.com/x"),
        format!("https://{token}:@github.com/x"),
        format!("https://{token}:x-oauth-basic@github.com/x"),
    ] {
        assert_eq!(masker(&address).mask_text(&format!("<{token}>")), "<***S***>", "{address}");
    }
    for (user, address) in [
        ("deploy-bot", "https://deploy-bot@github.com/x"),
        ("reporting_service_2024", "postgres://reporting_service_2024:hunter22@db"),
    ] {
        assert_eq!(masker(address).mask_text(user), user);
    }
}

#[test]
fn a_value_with_colours_in_it_is_masked() {
    let value = "s3cr3t-value-42";
    for coloured in [
        "s\x1b[01;31m\x1b[K3\x1b[m\x1b[Kcr\x1b[01;31m\x1b[K3\x1b[m\x1b[Kt-value-42",
        "s3\x1b[31mcr3t\x1b[0m-value-42",
        "s3c\x1b[7mr3t-value-4\x1b[m2",
    ] {
        assert_masked(value, coloured);
        for depth in 1..=3 {
            assert_masked(value, &in_json(coloured, depth));
        }
    }
    let mut each = String::new();
    for c in value.chars() {
        write!(each, "\x1b[38;5;154m{c}\x1b[39m").unwrap();
    }
    let masker = masker(value);
    assert_eq!(masker.mask_text(&each), "\x1b[38;5;154m***S***\x1b[39m");
    assert_eq!(masker.mask_text("s3cr3t-\x1b[1mother"), "s3cr3t-\x1b[1mother");
}

#[test]
fn a_prompt_that_ends_in_a_colour_is_shown_soon() {
    let mut stream = MaskedStream::new(masker("secret-value-1"));
    assert_eq!(stream.push(b"names\x1b[0m".to_vec()), b"name");
    assert!(stream.has_releasable());
    assert_eq!(stream.release(), b"s\x1b[0m");
    assert!(!stream.has_releasable());
    assert_eq!(stream.push(b" next".to_vec()), b" next");
}

#[test]
fn endless_colours_within_a_value_are_not_held_back() {
    let mut stream = MaskedStream::new(masker("s3cr3t-value-42"));
    assert_eq!(stream.push(b"s3cr3t".to_vec()), b"");
    let shown: usize = (0..1000).map(|_| stream.push(b"\x1b[0m\x1b[31m".repeat(10)).len()).sum();
    assert!(shown >= 89_000, "{shown}");
    let mut stream = MaskedStream::new(masker("s3cr3t-value-42"));
    assert_eq!(stream.push(b"s3cr3t\x1b[".to_vec()), b"");
    let shown: usize = (0..1000).map(|_| stream.push(b"1;".repeat(50)).len()).sum();
    assert!(shown >= 99_000, "{shown}");
}

#[test]
fn a_value_in_a_shells_quotes_is_masked() {
    for quoted in [
        // `set -x` of bash; shlex.quote and dash; `declare -p`; `printf %q`; repr.
        r#"it'\''s a "s3cr3t" & <more>\$HOME"#,
        r#"it'"'"'s a "s3cr3t" & <more>\$HOME"#,
        r#"it's a \"s3cr3t\" & <more>\\\$HOME"#,
        r#"it\'s\ a\ \"s3cr3t\"\ \&\ \<more\>\\\$HOME"#,
        r#"it\'s a "s3cr3t" & <more>\\$HOME"#,
    ] {
        assert_masked(QUOTED, quoted);
        assert_masked(QUOTED, &in_json(quoted, 1));
    }
    assert_masked("päss\tw0rd\x1b!", r"p\303\244ss\tw0rd\E!");
    assert_masked("päss\tw0rd\x1b!", r"p\xc3\xa4ss\x09w0rd\x1b!");
    assert_masked("'s3cr3t", r"'\''s3cr3t");
}

#[test]
fn a_value_whose_letters_json_escapes_is_masked() {
    let value = "s3cr3t-value-42";
    let escaped = |c: char| format!("\\u{:04x}", u32::from(c));
    let all: String = value.chars().map(escaped).collect();
    let first = value.replacen('s', "\\u0073", 1);
    let inside = value.replace('c', "\\u0063");
    for spelling in [all, first, inside] {
        assert_masked(value, &spelling);
        assert_masked(value, &in_json(&spelling, 1));
    }
}

#[test]
fn a_value_with_html_entities_is_masked() {
    let entities = [("'", "&#39;"), ("'", "&#x27;"), ("'", "&#039;"), ("'", "&apos;"), ("'", "'")];
    for (quote, double) in entities.into_iter().zip(["&quot;", "&#34;", "&#x22;", "\"", "&quot;"]) {
        let text = QUOTED.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let text = text.replace(quote.0, quote.1).replace('"', double);
        assert_masked(QUOTED, &text);
    }
    assert_masked("a+b=s3cr3t", "a&#43;b&#x3D;s3cr3t");
    assert_masked("&\nab<s3cr3t", "&amp;\\nab&lt;s3cr3t");
}

#[test]
fn a_value_with_doubled_quotes_is_masked() {
    for quote in ["'", "\""] {
        let doubled = QUOTED.replace(quote, &quote.repeat(2));
        assert_masked(QUOTED, &doubled);
        assert_masked(QUOTED, &in_json(&doubled, 1));
    }
    assert_masked("''s3cr3t''", "''''s3cr3t''''");
}

#[test]
fn a_value_that_is_percent_encoded_twice_is_masked() {
    assert_masked("p@ss/w0rd %1", "p%2540ss%252Fw0rd%2520%25251");
    assert_masked("p@ss/w0rd %1", "p%2540ss%252fw0rd+%25251");
}

#[test]
fn a_value_in_a_base64_command_of_powershell_is_masked() {
    for value in ["s3cr3t-value-42", "päss wörd €42"] {
        let masker = masker(value);
        for before in ["", "a", "ab", "login -k '"] {
            let encoded = STANDARD.encode(utf16(&format!("{before}{value}' -f")));
            let shown = masker.mask_text(&encoded).into_owned();
            assert!(shown.contains("***S***"), "{encoded}: {shown}");
            assert!(shown.len() < 7 + utf16(before).len() * 4 / 3 + 4 + 16, "{encoded}: {shown}");
        }
    }
}

#[test]
fn a_secret_of_many_parts_takes_bounded_memory() {
    let lines: String = (0..10_000).fold(String::new(), |mut all, n| {
        writeln!(all, "{n:08}'&").unwrap();
        all
    });
    let leaves: Vec<String> = (0..4_000).map(|n| format!("{n:08}'&")).collect();
    for value in [lines, serde_json::to_string(&leaves).unwrap()] {
        let begun = std::time::Instant::now();
        let masker = masker(&value);
        assert!(masker.size() < value.len() + 4 * 1024 * 1024, "{} bytes", masker.size());
        assert_eq!(masker.mask_text(&format!("<{}>", value.trim_end())), "<***S***>");
        assert_eq!(masker.mask_text("<00000000'&>"), "<***S***>");
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
    let deep = format!("{}\"s3cr3t-value\"{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(masker(&deep).mask_text(&format!("<{deep}>")), "<***S***>");
}

/// Prints the throughput for output without secrets, and the memory that ten secrets take.
#[test]
#[ignore = "a measurement"]
fn throughput_of_plain_output() {
    let mut secrets = Secrets::new(&[]);
    for n in 0..10_u64 {
        let word = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5bd1_e995_1234_5678;
        secrets.add("TOKEN", &format!("ghp_{}", STANDARD.encode(word.to_be_bytes().repeat(3))));
        secrets.add("DATABASE_URL", &format!("postgres://me:p%40{word:x}@db{n}/shop"));
    }
    let masker = Masker::new(secrets);
    let log: String = (0..4_000).fold(String::new(), |mut all, n| {
        writeln!(all, "   Compiling crate-{n} v1.{n}.3 (/work/space/target/debug/build/{n:x})\ntest some::path::of_test_{n} ... ok").unwrap();
        all
    });
    let colours = log.replace(" ... ok", " ... \x1b[32mok\x1b[0m");
    let json = log.lines().fold(String::new(), |mut all, line| {
        let item = serde_json::json!({"type": "item.completed", "item": {"aggregated_output": format!("{line}\n\u{1b}[0m")}});
        writeln!(all, "{item}").unwrap();
        all
    });
    let base64 = STANDARD.encode(log.as_bytes());
    println!("{} bytes", masker.size());
    for (what, text) in [("log", log), ("colours", colours), ("json", json), ("base64", base64)] {
        let best = (0..10).map(|_| {
            let begun = std::time::Instant::now();
            assert!(matches!(masker.mask_text(&text), std::borrow::Cow::Borrowed(_)));
            begun.elapsed()
        });
        #[expect(clippy::cast_precision_loss, reason = "the figure is only displayed")]
        let rate = text.len() as f64 / best.min().unwrap_or_default().as_secs_f64() / 1e6;
        println!("{what}: {rate:.0} MB/s");
    }
}
