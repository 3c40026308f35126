//! Every `pilot` command of docs/install.md does what the page says.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../../docs/install.md");

/// What a line of the page came to.
struct Ran {
    out: String,
    remarks: String,
}

/// Runs all lines that begin with `pilot`, in order, in a folder where the repository's files are seen as on the page.
fn run() -> BTreeMap<String, Ran> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["docs", "policies"] {
        std::os::unix::fs::symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    let mut ran = BTreeMap::new();
    for line in commands() {
        let (command, file) = match line.split_once(" > ") {
            Some((command, file)) => (command, Some(file)),
            None => (line, None),
        };
        let output = Command::new(env!("CARGO_BIN_EXE_pilot"))
            .args(command.split_whitespace().skip(1))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, remarks) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "`{line}` ended with {}: {remarks}", output.status);
        assert!(!out.is_empty(), "`{line}` said nothing");
        if let Some(file) = file {
            std::fs::write(folder.path().join(file), &out).unwrap();
        }
        ran.insert(line.to_owned(), Ran { out, remarks });
    }
    ran
}

/// The lines of its shell blocks that begin with `pilot`.
fn commands() -> Vec<&'static str> {
    let mut shell = false;
    let mut commands = Vec::new();
    for line in PAGE.lines() {
        match line {
            "```sh" => shell = true,
            "```" => shell = false,
            line if shell && line.starts_with("pilot ") => commands.push(line),
            _ => {}
        }
    }
    commands
}

fn of<'r>(ran: &'r BTreeMap<String, Ran>, begins: &str) -> &'r Ran {
    ran.iter().find(|(line, _)| line.starts_with(begins)).map(|(_, ran)| ran).unwrap_or_else(|| panic!("{begins}"))
}

#[test]
fn every_command_of_the_page_is_run_and_does_what_the_page_says() {
    assert!(commands().len() >= 8, "{:?}", commands());
    let ran = run();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let file = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();

    // §1: the committed manifest, to the letter.
    assert_eq!(of(&ran, "pilot render").out, file("docs/examples/cassandra-statefulset.yaml"));

    // §2: the diff and the remarks, the rights named beforehand, and back again.
    let inject = "pilot inject -f docs/examples/orders.yaml --image registry.example/pilot:0.1.0";
    let diff = of(&ran, &format!("{inject} --diff"));
    assert!(
        diff.out.contains("\n-    type: RollingUpdate\n") && diff.out.contains("\n+    type: OnDelete\n"),
        "{}",
        diff.out
    );
    let with = of(&ran, &format!("{inject} > "));
    for what in [
        "args of container cassandra",
        "CASSANDRA_SEEDS has no effect",
        "lifecycle",
        "pilot rbac orders",
        "orders-mesh-keys",
    ] {
        assert!(with.remarks.contains(what), "{what}: {}", with.remarks);
    }
    let back = &of(&ran, "pilot inject -f orders-with-pilots.yaml --remove").out;
    assert!(!back.contains("pilot"), "{back}");
    let objects = |text: &str| -> Vec<serde_json::Value> {
        text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
    };
    assert_eq!(objects(back), objects(&file("docs/examples/orders.yaml")));

    // §3
    let rights = &of(&ran, "pilot rbac orders -n shop").out;
    assert!(rights.contains("name: orders-pilot\n  namespace: shop\n"), "{rights}");

    // §4
    assert!(of(&ran, "pilot policy check").out.contains("valid, policy cautious"));
    assert!(of(&ran, "pilot policy diff").out.contains("spec."));
    assert!(of(&ran, "pilot policy explain").out.contains("election.lease"));
}

#[test]
fn what_is_refused_ends_with_one_and_what_is_misspelt_with_two() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pilot")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout.is_empty())
    };
    let wrong = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bootstrap/tests/golden/faults.yaml");
    let (code, said, silent) = run(&["render", "-f", wrong.to_str().unwrap()]);
    assert!(code == Some(1) && silent && said.contains("faults in"), "{said}");
    let (code, said, silent) = run(&["rbac", "Orders", "-n", "-x"]);
    assert!(code == Some(2) || (code == Some(1) && silent), "{said}");
    let (code, said, silent) = run(&["rbac", "Orders", "--service-account", "A"]);
    assert!(
        code == Some(1) && silent && said.contains("SET is `Orders`") && said.contains("--service-account is `A`"),
        "{said}"
    );
    // The program of this test is not static, unless all of it is built so.
    let image = std::env::temp_dir().join(format!("pilot-image-{}.tar", std::process::id()));
    let (code, said, silent) = run(&["image", "registry.example/pilot:0.1.0", "-o", image.to_str().unwrap()]);
    assert!(
        cfg!(target_feature = "crt-static") || (code == Some(1) && silent && said.contains("must be static")),
        "{said}"
    );
    assert!(cfg!(target_feature = "crt-static") || !image.exists());
    let (code, said, _) = run(&["first-size", "orders", "--members", "0", "-n", "shop"]);
    assert!(code == Some(2) && said.contains("1..=1000"), "{said}");
    let (code, said, _) = run(&["inject", "-f", "x"]);
    assert!(code == Some(2) && said.contains("--image"), "{said}");
}

#[test]
fn under_the_name_of_a_plugin_of_kubectl_it_is_the_same_program() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-pilot");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pilot"), &plugin).unwrap();
    let schema = |program: &Path| Command::new(program).args(["render", "--schema"]).output().unwrap();
    let (here, there) = (schema(Path::new(env!("CARGO_BIN_EXE_pilot"))), schema(&plugin));
    assert!(there.status.success() && !there.stdout.is_empty() && here.stdout == there.stdout);
}
