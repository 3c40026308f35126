//! Work whose panic is told to whoever waits for it, instead of taking its task along without a word.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The work panicked. What it had done until then is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it panicked, which is a bug of the pilot: report it with what was logged just before")]
pub struct Panicked;

/// Does the work to its end, or to its panic. What the work shares with others must be whole between any two of its steps.
///
/// # Errors
/// When it panicked.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_everything_else_goes_through() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let panics = async {
            tokio::task::yield_now().await;
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
        };
        assert_eq!(caught(panics).await, Err(Panicked));
    }
}
