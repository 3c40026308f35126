//! `pilot policy`: what a policy file says, before a pilot runs it.

use super::paint::{Paint, Tone};
use super::table::{self, Cell};
use super::{Done, FAILED, Output, PolicyCommand, document, say};
use policies::fault::Faults;
use policies::policy::{Explained, Policy, Preset};
use serde_json::json;
use std::io::Read;

/// Larger files are no policies.
const LONGEST: u64 = 4 * 1024 * 1024;

pub(super) fn run(command: PolicyCommand) -> Done {
    match command {
        PolicyCommand::Check { files, output } => check(&files, output),
        PolicyCommand::Explain { file, setting, output } => explain(&file, setting.as_deref(), output),
        PolicyCommand::Diff { from, to, output } => diff(&from, &to, output),
    }
}

/// A file, the standard input or a preset; the text and what to call it.
fn text(file: &str) -> Result<(String, String), String> {
    if let Some(name) = file.strip_prefix("preset:") {
        let preset = Preset::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Preset::ALL.into_iter().map(Preset::name).collect();
            format!("there is no preset `{name}`: choose one of {}", known.join(", "))
        })?;
        return Ok((preset.text().to_owned(), file.to_owned()));
    }
    let failed = |error: std::io::Error| format!("cannot read {file}: {error}");
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        return Ok((text, "standard input".to_owned()));
    }
    std::fs::File::open(file).map_err(failed)?.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok((text, file.to_owned()))
}

fn parse(file: &str) -> Result<Result<Policy, Faults>, String> {
    let (text, source) = text(file)?;
    Ok(Policy::parse(&text, &source))
}

fn valid(file: &str) -> Result<Policy, String> {
    parse(file)?.map_err(|faults| faults.to_string())
}

fn check(files: &[String], output: Output) -> Done {
    let mut found = Vec::new();
    for file in files {
        found.push((file, parse(file)?));
    }
    let code = if found.iter().any(|(_, result)| result.is_err()) { FAILED } else { 0 };
    let told = match output {
        Output::Text | Output::Wide => found
            .iter()
            .map(|(file, result)| match result {
                Ok(policy) => format!("{file}: valid, policy {} {}\n", policy.name, policy.hash()),
                Err(faults) => format!("{faults}\n"),
            })
            .collect(),
        Output::Json | Output::Yaml => {
            let all: Vec<_> = found
                .iter()
                .map(|(file, result)| match result {
                    Ok(policy) => json!({ "file": file, "valid": true, "name": policy.name, "hash": policy.hash() }),
                    Err(faults) => {
                        json!({ "file": file, "valid": false, "faults": faults.faults, "omitted": faults.omitted })
                    }
                })
                .collect();
            document(&all, output)?
        }
    };
    say(&told)?;
    Ok(code)
}

fn explain(file: &str, setting: Option<&str>, output: Output) -> Done {
    let policy = valid(file)?;
    let mut explained = policy.explain();
    if let Some(setting) = setting {
        let wanted = setting.trim_start_matches("spec.");
        explained.retain(|e| e.path.trim_start_matches("spec.") == wanted);
        if explained.is_empty() {
            return Err(format!("there is no setting `{setting}`: `pilot policy explain {file}` names all of them"));
        }
    }
    match output {
        Output::Json | Output::Yaml => say(&document(&explained, output)?),
        Output::Text | Output::Wide => say(&explanation(&explained, setting.is_some(), Paint::for_stdout())),
    }
}

/// All settings as a table, or one with what it means.
pub(super) fn explanation(explained: &[Explained], meaning: bool, paint: Paint) -> String {
    let rows: Vec<Vec<Cell>> = explained
        .iter()
        .map(|e| {
            vec![
                Cell::plain(e.path),
                Cell::plain(e.value.to_string()),
                Cell::new(Tone::Dim, if e.written { "the file" } else { "the default" }),
                Cell::new(Tone::Dim, e.default.to_string()),
                Cell::new(Tone::Dim, e.applies.to_string()),
            ]
        })
        .collect();
    let mut out = table::render(paint, &["SETTING", "VALUE", "FROM", "DEFAULT", "A CHANGE APPLIES"], &rows);
    if meaning {
        for e in explained {
            out.push_str(&format!("\n{}\n", e.doc.trim()));
        }
    }
    out
}

fn diff(from: &str, to: &str, output: Output) -> Done {
    // Both are read before either is judged, so that the faults of both are told.
    let (old, new) = match (valid(from), valid(to)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(one), Err(other)) => return Err(format!("{one}\n{other}")),
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => return Err(faults),
    };
    let changes = old.diff(&new);
    match output {
        Output::Json | Output::Yaml => say(&document(&changes, output)?),
        Output::Text | Output::Wide if changes.is_empty() => say(&format!("both mean the same: {}\n", old.hash())),
        Output::Text | Output::Wide => {
            let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
            say(&format!("{lines}policy {} becomes {}\n", old.hash(), new.hash()))
        }
    }
}
