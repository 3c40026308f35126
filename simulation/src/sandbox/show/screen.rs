//! The live screen: a scene as lines of a terminal of any size, down to 80x24.

use super::scene::{Member, PilotSight, Scene, clock};
use super::tale::{Chapter, ChapterState};
use protocol::database::DatabasePhase;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Whether colours are used. Words alone tell everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// With colours.
    Colours,
    /// Without: `NO_COLOR`.
    Plain,
}

impl Palette {
    /// As the environment wishes: a set and not empty `NO_COLOR` means none.
    pub fn from_environment() -> Self {
        if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) { Self::Plain } else { Self::Colours }
    }

    fn style(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Lines that are kept for decisions at least.
const DECISIONS: usize = 3;
/// Lines that are kept for the story at least: what was done, what is done, a note, what comes.
const STORY: usize = 5;

/// Draws a scene into at most so many lines, none longer than `width`.
pub fn draw(scene: &Scene, width: usize, height: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = vec![title(scene, width, palette)];
    let story = story(scene, palette);
    // Title, headings and blank lines, three lines of facts, a footer.
    let fixed = 9 + usize::from(!story.is_empty());
    let room = height.saturating_sub(fixed);
    let story_room = if story.is_empty() { 0 } else { STORY.min(story.len()) };
    let member_room = scene.members.len().max(1).min(room.saturating_sub(DECISIONS + story_room).max(1));
    members(scene, member_room, palette, &mut lines);
    lines.push(Line::default());
    facts(scene, palette, &mut lines);
    lines.push(Line::default());
    let rest = room.saturating_sub(member_room);
    let decision_room = rest.saturating_sub(story.len()).max(DECISIONS).min(rest.saturating_sub(story_room));
    lines.push(heading("why (newest first)"));
    decisions(scene, width, decision_room, &mut lines);
    if !story.is_empty() {
        lines.push(heading(if scene.tale.chapters.is_empty() { "the last order" } else { "the tour" }));
        lines.extend(window(story, scene, rest.saturating_sub(decision_room)));
    }
    while lines.len() + 1 < height {
        lines.push(Line::default());
    }
    lines.truncate(height.saturating_sub(1));
    lines.push(Line::from(Span::styled(scene.footer.clone(), Style::new().add_modifier(Modifier::DIM))));
    lines.into_iter().map(|line| clip(line, width)).collect()
}

fn heading(text: &str) -> Line<'static> {
    Line::from(Span::styled(text.to_owned(), BOLD))
}

fn title(scene: &Scene, width: usize, palette: Palette) -> Line<'static> {
    let left = format!("pilotmesh sandbox · {} · {}", scene.title, clock(scene.elapsed));
    let right = scene.rows.map_or(String::new(), |rows| format!("{rows} rows acknowledged"));
    let gap = width.saturating_sub(left.chars().count() + right.chars().count()).max(2);
    Line::from(vec![
        Span::styled(left, BOLD),
        Span::raw(" ".repeat(gap)),
        Span::styled(right, palette.style(Color::Green)),
    ])
}

/// A table row: pod, address, pilot, database, host id, its process, starts.
fn row(cells: [&str; 7]) -> String {
    let [pod, address, pilot, database, identity, pid, starts] = cells;
    format!(
        "{} {:<13} {:<9} {:<14} {:<9} {:>8} {:>6}",
        fit(pod, 14),
        fit(address, 13),
        pilot,
        fit(database, 14),
        identity,
        pid,
        starts
    )
}

/// Exactly so wide: padded, or cut with a mark. The end of a pod's name tells more than its middle.
fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text:<width$}");
    }
    let end = (width - 1) / 2;
    let start = width - 1 - end;
    let head: String = text.chars().take(start).collect();
    let tail: String = text.chars().skip(count - end).collect();
    format!("{head}…{tail}")
}

fn members(scene: &Scene, room: usize, palette: Palette, lines: &mut Vec<Line<'static>>) {
    lines.push(heading(&row(["pod", "address", "pilot", "database", "host id", "process", "starts"])));
    if scene.members.is_empty() {
        lines.push(Line::from("no pods yet"));
        return;
    }
    // Where not all fit, those that tell something come first.
    let all = scene.members.len();
    let mut shown: Vec<&Member> = scene.members.iter().collect();
    if all > room {
        let quiet =
            |m: &&Member| m.phase == Some(DatabasePhase::Serving) && m.pilot == PilotSight::Live && !m.coordinates;
        shown.sort_by_key(quiet);
        shown.truncate(room.saturating_sub(1));
    }
    for member in &shown {
        lines.push(member_line(member, palette));
    }
    if all > shown.len() {
        let serving = scene.members.iter().filter(|m| m.phase == Some(DatabasePhase::Serving)).count();
        lines.push(Line::from(format!("… {} of {all} pods are not shown; {serving} serve", all - shown.len())));
    }
}

fn member_line(member: &Member, palette: Palette) -> Line<'static> {
    let dash = || "-".to_owned();
    let pod = if member.ending { format!("{} ×", member.pod) } else { member.pod.clone() };
    let identity = member.identity.as_deref().map_or_else(dash, |id| id.chars().take(8).collect());
    let text = row([
        &pod,
        &member.address.to_string(),
        member.pilot.word(),
        &member.database(),
        &identity,
        &member.database_pid.map_or_else(dash, |p| p.to_string()),
        &member.starts.map_or_else(dash, |n| n.to_string()),
    ]);
    let colour = match (member.pilot, member.phase) {
        (PilotSight::Unheard | PilotSight::Silent | PilotSight::NoAnswer | PilotSight::Ended, _) => Color::Red,
        (PilotSight::Starting, _) => Color::Yellow,
        (PilotSight::Live, Some(DatabasePhase::Serving)) => Color::Green,
        (PilotSight::Live, Some(DatabasePhase::CrashLooping | DatabasePhase::Unresponsive)) => Color::Red,
        (PilotSight::Live, _) => Color::Yellow,
    };
    let style = palette.style(colour);
    Line::from(Span::styled(text, if member.coordinates { style.add_modifier(Modifier::BOLD) } else { style }))
}

fn facts(scene: &Scene, palette: Palette, lines: &mut Vec<Line<'static>>) {
    let fact = |name: &str, text: String, style: Style| {
        Line::from(vec![Span::styled(format!("{name:<13}"), BOLD), Span::styled(text, style)])
    };
    lines.push(match &scene.coordinator {
        Some(c) => {
            let promises = c.promises.map_or(String::new(), |(of, all)| format!(", {of} of {all} promised it"));
            let degraded = c.degraded.as_ref().map_or(String::new(), |why| format!(" - decides nothing: {why}"));
            let style = palette.style(if c.degraded.is_some() { Color::Red } else { Color::Cyan });
            fact("coordinator", format!("{} at epoch {}{promises}{degraded}", c.pilot, c.epoch), style)
        }
        None => fact("coordinator", "none".to_owned(), palette.style(Color::Yellow)),
    });
    lines.push(match &scene.operation {
        Some((name, step)) => fact("operation", format!("{name}: {step}"), palette.style(Color::Yellow)),
        None => fact("operation", "none".to_owned(), Style::new()),
    });
    let api = if scene.api { "answers" } else { "is stopped" };
    let style = if scene.api { Style::new() } else { palette.style(Color::Red) };
    lines.push(fact("kubernetes", format!("the API {api}; the StatefulSet is told {}", scene.replicas), style));
}

fn decisions(scene: &Scene, width: usize, room: usize, lines: &mut Vec<Line<'static>>) {
    let mut left = room;
    for brief in scene.decisions.iter().rev() {
        // The newest one may take what it needs, up to all; the rest a line each.
        let wrapped = wrap(&brief.text, width.saturating_sub(2), if left == room { 2 } else { 1 });
        for (n, text) in wrapped.into_iter().enumerate() {
            if left == 0 {
                return;
            }
            left -= 1;
            lines.push(Line::from(format!("{}{text}", if n == 0 { "· " } else { "  " })));
        }
    }
    lines.extend(std::iter::repeat_n(Line::default(), left));
}

/// At most so many lines; a last one that does not hold the rest ends with a mark.
fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > width {
            if lines.len() + 1 == most {
                return lines.into_iter().chain([cut(&format!("{line} {word}"), width)]).collect();
            }
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The steps as lines, and under the present one what it does.
fn story(scene: &Scene, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if scene.tale.chapters.is_empty() && !scene.note.is_empty() {
        lines.push(Line::from(scene.note.clone()));
    }
    for chapter in &scene.tale.chapters {
        lines.push(chapter_line(chapter, palette));
        if matches!(chapter.state, ChapterState::Now { .. } | ChapterState::Failed { .. }) {
            lines.push(Line::from(format!("    {}", scene.note)));
        }
    }
    lines
}

fn chapter_line(chapter: &Chapter, palette: Palette) -> Line<'static> {
    let (mark, colour, time) = match chapter.state {
        ChapterState::Next => ("· ", None, String::new()),
        ChapterState::Now { since } => ("> ", Some(Color::Cyan), format!("  ({} s)", since.elapsed().as_secs())),
        ChapterState::Done { took } => ("✓ ", Some(Color::Green), format!("  ({:.1} s)", took.as_secs_f64())),
        ChapterState::Failed { took } => ("✗ ", Some(Color::Red), format!("  ({:.1} s)", took.as_secs_f64())),
    };
    let style = colour.map_or(Style::new(), |c| palette.style(c));
    let style =
        if matches!(chapter.state, ChapterState::Now { .. }) { style.add_modifier(Modifier::BOLD) } else { style };
    Line::from(vec![Span::styled(format!("{mark}{}", chapter.title), style), Span::raw(time)])
}

/// The part of the story around the present: one step back where there is room.
fn window(story: Vec<Line<'static>>, scene: &Scene, room: usize) -> Vec<Line<'static>> {
    let first = scene.tale.position().saturating_sub(1).min(story.len().saturating_sub(room));
    story.into_iter().skip(first).take(room).collect()
}

fn clip(line: Line<'static>, width: usize) -> Line<'static> {
    if line.width() <= width {
        return line;
    }
    let mut left = width;
    let mut spans = Vec::new();
    for span in line.spans {
        let text = cut(&span.content, left);
        left -= text.chars().count();
        let was_cut = text.chars().count() < span.content.chars().count();
        spans.push(Span::styled(text, span.style));
        if left == 0 || was_cut {
            break;
        }
    }
    Line::from(spans)
}

/// The same as plain text, for a terminal that shows it once.
pub fn text(scene: &Scene, width: usize) -> String {
    let mut lines = Vec::new();
    members(scene, scene.members.len().max(1), Palette::Plain, &mut lines);
    facts(scene, Palette::Plain, &mut lines);
    let told: Vec<String> = lines.into_iter().map(|line| clip(line, width).to_string().trim_end().to_owned()).collect();
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::scene::tests::scene;
    use super::super::tale::Tale;
    use super::*;

    fn told(scene: &Scene, width: usize, height: usize) -> Vec<String> {
        draw(scene, width, height, Palette::Plain).into_iter().map(|l| l.to_string()).collect()
    }

    fn tour(members: u8) -> Scene {
        let mut scene = scene(members);
        scene.tale = Tale::new(&["one", "two", "three", "four", "five", "six", "seven", "eight"]);
        scene.note = "what is done now".to_owned();
        scene.footer = "Ctrl-C ends it".to_owned();
        for _ in 0..4 {
            scene.tale.begin();
            scene.tale.end(true);
        }
        scene.tale.begin();
        scene
    }

    #[test]
    fn a_screen_of_80_by_24_tells_everything_and_no_line_is_longer() {
        for members in [0, 3, 4, 50] {
            let lines = told(&tour(members), 80, 24);
            assert_eq!(lines.len(), 24, "{lines:#?}");
            assert!(lines.iter().all(|l| l.chars().count() <= 80), "{lines:#?}");
            let all = lines.join("\n");
            for part in [
                "coordinator",
                "operation",
                "the API answers",
                "decision 8",
                "✓ four",
                "> five",
                "what is done now",
                "· six",
                "Ctrl-C",
            ] {
                assert!(all.contains(part), "{part} is missing with {members} members:\n{all}");
            }
        }
    }

    #[test]
    fn every_size_is_drawn_within_its_bounds() {
        for width in [1, 10, 40, 79, 200] {
            for height in [1, 5, 12, 24, 60] {
                let lines = told(&tour(5), width, height);
                assert!(lines.len() <= height.max(1), "{width}x{height}: {}", lines.len());
                assert!(lines.iter().all(|l| l.chars().count() <= width), "{width}x{height}: {lines:#?}");
            }
        }
    }

    #[test]
    fn of_many_members_those_that_tell_something_come_first() {
        let mut many = tour(50);
        many.members[33].phase = Some(DatabasePhase::Joining);
        let all = told(&many, 80, 24).join("\n");
        assert!(all.contains("cassandra-33") && all.contains("cassandra-0 "), "{all}");
        assert!(all.contains("pods are not shown; 49 serve"), "{all}");
    }

    #[test]
    fn without_a_story_the_last_order_is_told() {
        let mut quiet = scene(3);
        assert!(!told(&quiet, 80, 24).join("\n").contains("the last order"));
        quiet.note = "killed process 1, the agent of cassandra-1".to_owned();
        assert!(told(&quiet, 80, 24).join("\n").contains("the last order\nkilled process 1"));
    }

    #[test]
    fn long_names_are_cut_in_the_middle_and_keep_their_ordinal() {
        assert_eq!(fit("a-very-long-release-name-cassandra-12", 14), "a-very-…dra-12");
        assert_eq!(fit("short", 7), "short  ");
    }

    #[test]
    fn without_colours_no_style_has_one() {
        let lines = draw(&tour(4), 80, 24, Palette::Plain);
        assert!(lines.iter().flat_map(|l| &l.spans).all(|s| s.style.fg.is_none() && s.style.bg.is_none()));
    }
}
