//! The terminal: taken for the live screen, and given back on every way out.

use super::scene::Scene;
use super::screen::{Palette, draw};
use crate::sandbox::stop::Stop;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, execute};
use ratatui::text::Text;
use std::io::{self, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The terminal while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    palette: Palette,
    given_back: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal. Ctrl-C and `q` are told to `stop` from now on; a panic gives the terminal back first.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) fn take(stop: Stop) -> io::Result<Self> {
        let given_back = Arc::new(AtomicBool::new(false));
        let before = std::panic::take_hook();
        let flag = given_back.clone();
        std::panic::set_hook(Box::new(move |panic| {
            give_back(&flag);
            before(panic);
        }));
        enable_raw_mode()?;
        if let Err(error) = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide) {
            give_back(&given_back);
            return Err(error);
        }
        let terminal = match Terminal::new(CrosstermBackend::new(io::stdout())) {
            Ok(terminal) => terminal,
            Err(error) => {
                give_back(&given_back);
                return Err(error);
            }
        };
        let flag = given_back.clone();
        std::thread::spawn(move || keys(&flag, &stop));
        Ok(Self { terminal, palette: Palette::from_environment(), given_back })
    }

    /// Draws a scene; only what differs is sent.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, scene: &Scene) -> io::Result<()> {
        let palette = self.palette;
        self.terminal.draw(|frame| {
            let area = frame.area();
            let lines = draw(scene, usize::from(area.width), usize::from(area.height), palette);
            frame.render_widget(Text::from(lines), area);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(&self.given_back);
    }
}

/// Once, whoever comes first. What fails here fails because the terminal is gone.
fn give_back(given_back: &AtomicBool) {
    if !given_back.swap(true, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

fn keys(given_back: &AtomicBool, stop: &Stop) {
    while !given_back.load(Ordering::SeqCst) {
        match event::poll(Duration::from_millis(100)) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let Ok(Event::Key(key)) = event::read() else {
            continue;
        };
        let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if key.kind == KeyEventKind::Press && (control_c || key.code == KeyCode::Char('q')) {
            stop.ask();
        }
    }
}
