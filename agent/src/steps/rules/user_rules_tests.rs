//! Tests of rules of `relay.toml`, which precede the table.

use common::job::StepKind;
use common::rule::OnLimit;

use super::*;

fn rule(pattern: &str, kind: StepKind) -> StepRule {
    let pattern = pattern.to_owned();
    StepRule { pattern, kind, limit_ms: None, stall_ms: None, on_limit: None }
}

fn rules(user_rules: &[StepRule]) -> Rules {
    Rules::new(user_rules).unwrap()
}

fn process(rules: &Rules, argv: &[&str]) -> Option<(StepKind, String)> {
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    rules.classify_process(&argv).map(|classification| (classification.kind, classification.title))
}

#[test]
fn a_rule_sets_kind_and_limits_but_not_the_title() {
    let user_rules = StepRule {
        limit_ms: Some(1000),
        stall_ms: Some(500),
        on_limit: Some(OnLimit::Interrupt),
        ..rule("^cd app && npm ci", StepKind::Test)
    };
    let expected = Classification {
        fetches_program: false,
        kind: StepKind::Test,
        title: "npm ci".into(),
        limit_ms: Some(1000),
        stall_ms: Some(500),
        on_limit: Some(OnLimit::Interrupt),
    };
    assert_eq!(rules(&[user_rules]).classify_line("/bin/bash -lc 'cd app && npm ci | tail'"), expected);
}

#[test]
fn the_first_matching_rule_decides_before_the_table() {
    let rules = rules(&[
        rule("deploy", StepKind::Fetch),
        rule("^npm", StepKind::Test),
        rule("npm-cli|deploy", StepKind::Build),
    ]);
    assert_eq!(rules.classify_line("./deploy && npm ci").kind, StepKind::Fetch);
    assert_eq!(rules.classify_line("npm ci").kind, StepKind::Test);
    assert_eq!(rules.classify_line("pip install x").kind, StepKind::Install);
    // The second rule is matched against `npm ci`, the third against the whole path; the earlier rule wins, not the
    // longer line.
    let argv = ["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "ci"];
    assert_eq!(process(&rules, &argv), Some((StepKind::Test, "npm ci".into())));
}

#[test]
fn a_rule_classifies_a_process_that_is_not_in_the_table() {
    let rules = rules(&[rule("^(python3 )?train", StepKind::Test), rule(r"^run\.sh", StepKind::Build)]);
    assert_eq!(
        process(&rules, &["python3", "train.py", "--all"]),
        Some((StepKind::Test, "python3 train.py --all".into()))
    );
    assert_eq!(process(&rules, &["bash", "/w/run.sh"]), Some((StepKind::Build, "bash /w/run.sh".into())));
    assert_eq!(process(&rules, &["bash", "-c", "train"]), None);
    assert_eq!(process(&rules, &["sudo", "train"]), None);
    assert_eq!(process(&rules, &["python3", "other.py"]), None);
}

#[test]
fn a_bad_pattern_is_named_with_its_fault() {
    let error = |pattern: &str| {
        Rules::new(&[rule("fine", StepKind::Test), rule(pattern, StepKind::Test)]).unwrap_err()
    };
    insta::assert_snapshot!(["npm (ci", "*", "[a", " ", "a\nb(", "(a{900}){900}", r"\p{L}"].map(error).join("\n"), @r#"
    step rule 2 = 'npm (ci': found open group without closing ')'
    step rule 2 = '*': uncounted repetition operator must be applied to a sub-expression
    step rule 2 = '[a': non-empty character class has no closing bracket
    step rule 2 is empty: write a regular expression for the command lines that are meant
    step rule 2 = 'a': found open group without closing ')'
    step rule 2 = '(a{900}){900}': compiled regex exceeded size limit
    step rule 2 = '\p{L}': Unicode character classes are not supported
    "#);
    let error = error(&"(".repeat(100_000));
    assert!(error.len() < 300 && !error.contains('\n'), "{error}");
}

#[test]
fn a_hundred_rules_are_tried_and_one_more_is_refused() {
    // This rule matches nothing, and is tried at every position of a line.
    let never_matching = rule(r"(a|b|ab)*[^\s\S]", StepKind::Test);
    let mut user_rules = vec![never_matching; MAX_RULES - 1];
    user_rules.push(rule("x$", StepKind::Fetch));
    let rules = rules(&user_rules);
    assert_eq!(rules.classify_line("x").kind, StepKind::Fetch);
    assert_eq!(process(&rules, &["x"]), Some((StepKind::Fetch, "x".into())));
    assert_eq!(rules.classify_line("npm ci").kind, StepKind::Install);
    user_rules.push(rule("y", StepKind::Fetch));
    assert_eq!(Rules::new(&user_rules).unwrap_err(), "101 step rules; at most 100 are possible");
}

#[test]
fn matching_a_hostile_line_with_a_large_pattern_ends_in_time() {
    let rules = rules(&[rule("(a?){200}b{200}[^a]$", StepKind::Test)]);
    // Matching takes some 0.1 s when optimized; backtracking would never finish.
    let begin = std::time::Instant::now();
    assert_eq!(rules.classify_line(&"a".repeat(1024 * 1024)).kind, StepKind::Command);
    assert!(begin.elapsed().as_secs() < 100, "{:?}", begin.elapsed());
}
