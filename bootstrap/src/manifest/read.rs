//! A file of manifests, cut into its documents: each with its text as written, and its tree.

use super::tree::{Map, Value};
use policies::fault::{Fault, FaultKind, Faults, Position};
use policies::file::read_object;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The line of the file on which its text begins, from 1.
    pub line: u64,
    /// The text between the lines that part documents, as it was written.
    pub text: String,
    /// What it says; none where it is empty or nothing but comments.
    pub object: Option<Map>,
}

/// Cuts a file and reads each document.
///
/// # Errors
/// With a fault for every document that cannot be read or is no mapping.
pub fn objects(text: &str, source: &str) -> Result<Vec<Document>, Faults> {
    let mut faults = Vec::new();
    let mut documents = Vec::new();
    if text.len() > MAX_FILE_BYTES {
        faults.push(syntax(
            1,
            format!("{} bytes long", text.len()),
            format!("be no longer than {MAX_FILE_BYTES} bytes"),
            "give fewer objects at once",
        ));
    } else {
        for (line, text) in cut(text) {
            documents.push(Document { line, object: tree(line, &text, &mut faults), text });
        }
    }
    match Faults::collect(source, faults) {
        Some(faults) => Err(faults),
        None => Ok(documents),
    }
}

fn tree(line: u64, text: &str, faults: &mut Vec<Fault>) -> Option<Map> {
    let blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    };
    if text.lines().all(blank) {
        return None;
    }
    match read_object(text) {
        Ok(node) => match Value::from(&node) {
            Value::Map(map) => Some(map),
            Value::Nothing => None,
            Value::Flag(_) | Value::Whole(_) | Value::Fraction(_) | Value::Text(_) | Value::List(_) => {
                let at = line.saturating_add(node.at.line).saturating_sub(1);
                faults.push(syntax(
                    at,
                    node.value.describe(),
                    "be a Kubernetes object".into(),
                    "is it the right file?",
                ));
                None
            }
        },
        Err(mut fault) => {
            fault.at.line = fault.at.line.saturating_add(line).saturating_sub(1);
            faults.push(fault);
            None
        }
    }
}

fn syntax(line: u64, found: String, rule: String, remedy: &str) -> Fault {
    Fault {
        at: Position { line, column: 1 },
        path: String::new(),
        kind: FaultKind::Syntax,
        found,
        rule,
        remedy: remedy.into(),
    }
}

/// Cuts at lines that begin with `---`: in YAML these part documents wherever they stand, also within a text.
fn cut(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in (1_u64..).zip(text.split_inclusive('\n')) {
        let marker = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        match (marker, documents.last_mut()) {
            (Some(rest), _) => {
                // What follows on the marker's own line belongs to the document.
                let rest = if rest.trim().is_empty() { String::new() } else { format!("   {rest}") };
                documents.push((if rest.is_empty() { number + 1 } else { number }, rest));
            }
            (None, Some((_, document))) => document.push_str(line),
            (None, None) => {}
        }
    }
    // Before a first marker there is usually nothing.
    documents.retain(|(_, text)| !text.trim().is_empty());
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_where_documents_part_and_each_keeps_its_text() {
        let file = "# first\n---\nkind: A\n--- # of B\nkind: B\ntext: |\n  ---\n  x\n---\n---\n{kind: C}\n";
        let read = objects(file, "f").unwrap();
        let texts: Vec<&str> = read.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["# first\n", "kind: A\n", "    # of B\nkind: B\ntext: |\n  ---\n  x\n", "{kind: C}\n"]);
        assert_eq!(read[0].object, None);
        let lines: Vec<u64> = read.iter().map(|d| d.line).collect();
        assert_eq!(lines, [1, 3, 4, 11]);
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let read = objects("a: yes\nb: 'yes'\nc: 0440\nd: &x {e: 1}\nf: {<<: *x, g: 2}\nh: 1.5\n", "f").unwrap();
        let object = Value::from(read[0].object.clone().unwrap());
        assert_eq!(object.at(&["a"]), Some(&Value::Flag(true)));
        assert_eq!(object.text_at(&["b"]), Some("yes"));
        assert_eq!(object.at(&["c"]), Some(&Value::Whole(288)));
        assert_eq!(object.at(&["f", "e"]), Some(&Value::Whole(1)));
    }

    #[test]
    fn every_unreadable_document_is_named_with_its_line_in_the_file() {
        let faults = objects("kind: A\n---\nkind: {\n---\n- a\n---\na: 1\na: 2\n", "f.yaml").unwrap_err();
        let lines: Vec<u64> = faults.faults.iter().map(|f| f.at.line).collect();
        assert_eq!(faults.count(), 3, "{faults}");
        assert_eq!((lines[1], lines[2]), (5, 8), "{faults}");
    }
}
