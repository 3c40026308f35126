//! A script being run: each step asks, and writes down what of the answer matters.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::normal::{Names, looked_up};
use crate::recording::{Step, Told};
use crate::target::{Answer, PATIENCE, Sent, Target};

/// A sentence that says what it shows, and its steps.
pub(crate) type Script = (&'static str, fn(&mut Run<'_>));

pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) struct Run<'a> {
    target: &'a mut dyn Target,
    namespace: String,
    names: Names,
    told: Told,
}

/// A step about to be taken.
pub(crate) struct Ask<'r, 'a> {
    run: &'r mut Run<'a>,
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: Value,
    why: &'static str,
    pointers: &'static [&'static str],
}

impl<'a> Run<'a> {
    /// Runs a script in a namespace of its own.
    pub(crate) fn tell(target: &'a mut dyn Target, namespace: &str, script: &fn(&mut Run<'_>)) -> Told {
        target.prepare(namespace);
        let mut run = Run { target, namespace: namespace.to_owned(), names: Names::new(namespace), told: Vec::new() };
        script(&mut run);
        run.told
    }

    pub(crate) fn namespace(&self) -> String {
        self.namespace.clone()
    }

    pub(crate) fn image(&self) -> String {
        self.target.image()
    }

    pub(crate) fn forget(&mut self) {
        self.target.forget();
    }

    pub(crate) fn get<'r>(&'r mut self, path: &str) -> Ask<'r, 'a> {
        self.ask("GET", path, "", Value::Null)
    }

    pub(crate) fn post<'r>(&'r mut self, path: &str, body: Value) -> Ask<'r, 'a> {
        self.ask("POST", path, "application/json", body)
    }

    pub(crate) fn put<'r>(&'r mut self, path: &str, body: Value) -> Ask<'r, 'a> {
        self.ask("PUT", path, "application/json", body)
    }

    pub(crate) fn patch<'r>(&'r mut self, path: &str, content_type: &'static str, body: Value) -> Ask<'r, 'a> {
        self.ask("PATCH", path, content_type, body)
    }

    /// Server-side apply; `path` may carry `?force=true`.
    pub(crate) fn apply<'r>(&'r mut self, path: &str, manager: &str, body: Value) -> Ask<'r, 'a> {
        let joint = if path.contains('?') { '&' } else { '?' };
        self.ask("PATCH", &format!("{path}{joint}fieldManager={manager}"), APPLY, body)
    }

    pub(crate) fn delete<'r>(&'r mut self, path: &str, options: Value) -> Ask<'r, 'a> {
        self.ask("DELETE", path, "application/json", options)
    }

    pub(crate) fn ask<'r>(
        &'r mut self,
        method: &'static str,
        path: &str,
        content_type: &'static str,
        body: Value,
    ) -> Ask<'r, 'a> {
        Ask { run: self, method, path: path.to_owned(), content_type, body, why: "", pointers: &[] }
    }

    /// Makes something without writing down how; where that fails, so much is written down.
    pub(crate) fn given(&mut self, path: &str, body: Value) -> Value {
        let sent = Sent {
            method: "POST",
            path: full(&self.namespace, path),
            content_type: "application/json".to_owned(),
            body,
        };
        let answer = self.target.send(sent);
        if answer.code != 201 {
            let mut seen = self.names.answer(&answer);
            seen.insert("message".to_owned(), answer.body["message"].clone());
            self.write(format!("given {path}"), seen, &Value::Null, &[]);
        }
        answer.body
    }

    /// Reads without writing it down.
    pub(crate) fn look(&mut self, path: &str) -> Answer {
        let path = full(&self.namespace, path);
        self.target.send(Sent { method: "GET", path, content_type: String::new(), body: Value::Null })
    }

    /// Waits until what is read is as said, and writes down whether it came to that and what it was like then.
    pub(crate) fn until(
        &mut self,
        path: &str,
        what: &str,
        pointers: &[&str],
        holds: impl Fn(&Answer) -> bool,
    ) -> Value {
        let mut waited = Duration::ZERO;
        let mut answer = self.look(path);
        while !holds(&answer) && waited < PATIENCE {
            waited += self.target.pause();
            answer = self.look(path);
        }
        let mut seen = self.names.answer(&answer);
        if !holds(&answer) {
            seen.insert("came".to_owned(), json!(false));
        }
        self.write(format!("{path} until {what}"), seen, &answer.body, pointers);
        answer.body
    }

    /// Waits until the list at `path` has just these names.
    pub(crate) fn until_names(&mut self, path: &str, names: &[&str]) {
        let what = format!("there are {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
        self.until(path, &what, &[], |answer| {
            answer.body["items"].as_array().is_some_and(|items| {
                let mut there: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
                there.sort_unstable();
                there == names
            })
        });
    }

    pub(crate) fn until_gone(&mut self, path: &str) {
        self.until(path, "it is gone", &[], |answer| answer.code == 404);
    }

    /// The first events of a watch.
    pub(crate) fn watch(&mut self, path: &str, count: usize, why: &str, pointers: &[&str]) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (code, events) = self.target.watch(&format!("{}{joint}watch=true", full(&self.namespace, path)), count);
        let told: Vec<Value> = events
            .iter()
            .map(|event| {
                let object = &event["object"];
                let mut seen = Map::new();
                seen.insert("type".to_owned(), event["type"].clone());
                for pointer in ["/metadata/name", "/metadata/annotations", "/reason", "/code"].iter().chain(pointers) {
                    let value = looked_up(object, pointer);
                    if value != "absent" {
                        let key = pointer.rsplit('/').next().unwrap_or("");
                        seen.insert((*pointer).to_owned(), self.names.part(key, &value));
                    }
                }
                Value::Object(seen)
            })
            .collect();
        let mut seen = Map::new();
        seen.insert("code".to_owned(), json!(code));
        seen.insert("events".to_owned(), json!(told));
        let label = match why {
            "" => format!("WATCH {}", path_shown(path)),
            why => format!("WATCH {}: {why}", path_shown(path)),
        };
        self.write(label, seen, &Value::Null, &[]);
        events
    }

    /// Writes down what a script worked out from answers.
    pub(crate) fn note(&mut self, what: &str, value: impl Into<Value>) {
        let mut seen = Map::new();
        seen.insert("is".to_owned(), value.into());
        self.write(what.to_owned(), seen, &Value::Null, &[]);
    }

    fn write(&mut self, mut label: String, mut seen: Map<String, Value>, body: &Value, pointers: &[&str]) {
        for pointer in pointers {
            let key = pointer.rsplit('/').next().unwrap_or("");
            seen.insert((*pointer).to_owned(), self.names.part(key, &looked_up(body, pointer)));
        }
        let before = self.told.iter().filter(|step| step.step == label || step.step.starts_with(&format!("{label} (")));
        let times = before.count();
        if times > 0 {
            label = format!("{label} ({})", times + 1);
        }
        self.told.push(Step { step: label, answer: Value::Object(seen) });
    }
}

impl Ask<'_, '_> {
    /// What is special about this request.
    pub(crate) fn why(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    /// What to look at besides what every answer is looked at for.
    pub(crate) fn see(mut self, pointers: &'static [&'static str]) -> Self {
        self.pointers = pointers;
        self
    }

    /// Sends it; returns what came.
    pub(crate) fn go(self) -> Value {
        let path = full(&self.run.namespace, &self.path);
        let sent = Sent { method: self.method, path, content_type: self.content_type.to_owned(), body: self.body };
        let answer = self.run.target.send(sent);
        let seen = self.run.names.answer(&answer);
        let label = match self.why {
            "" => format!("{} {}", self.method, path_shown(&self.path)),
            why => format!("{} {}: {why}", self.method, path_shown(&self.path)),
        };
        self.run.write(label, seen, &answer.body, self.pointers);
        answer.body
    }
}

/// Continue tokens and revisions of a query differ from run to run.
fn path_shown(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else {
        return path.to_owned();
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some(("continue", token)) if token != "nonsense" => "continue=TOKEN".to_owned(),
            // Zero and one are meant; the rest came from an answer.
            Some(("resourceVersion", revision)) if revision.parse::<u64>().is_ok_and(|number| number > 1) => {
                "resourceVersion=N".to_owned()
            }
            _ => part.to_owned(),
        })
        .collect();
    format!("{path}?{}", shown.join("&"))
}

/// `pods/a` as the server knows it. What begins with a slash is complete.
fn full(namespace: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.replace("NAMESPACE", namespace);
    }
    let plural = path.split(['/', '?']).next().unwrap_or("");
    let group = match plural {
        "statefulsets" | "controllerrevisions" => "apis/apps/v1",
        "leases" => "apis/coordination.k8s.io/v1",
        "poddisruptionbudgets" => "apis/policy/v1",
        _ => "api/v1",
    };
    format!("/{group}/namespaces/{namespace}/{path}")
}
