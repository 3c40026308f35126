//! What a pilot counts of its own traffic, read from `/metrics`.

/// Traffic of one pilot since its start: gossip datagrams and frames of streams.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Traffic {
    /// Datagrams and frames sent.
    pub(super) packets: f64,
    /// Bytes sent by gossip.
    pub(super) gossip: f64,
    /// Bytes sent on streams.
    pub(super) streams: f64,
}

impl Traffic {
    /// Reads what the exposition tells; `None` where a pilot does not count (yet).
    pub(super) fn read(text: &str) -> Option<Self> {
        let sent = |family: &str| {
            let series = format!("{family}_total{{direction=\"sent\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series))?.trim().parse::<f64>().ok()
        };
        Some(Self {
            packets: sent("pilot_gossip_datagrams")? + sent("pilot_stream_frames")?,
            gossip: sent("pilot_gossip_traffic_bytes")?,
            streams: sent("pilot_stream_traffic_bytes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_and_what_is_not_counted_is_not_zero() {
        let text = "pilot_gossip_datagrams_total{direction=\"received\"} 9\n\
                    pilot_gossip_datagrams_total{direction=\"sent\"} 4\n\
                    pilot_gossip_traffic_bytes_total{direction=\"sent\"} 400\n\
                    pilot_stream_frames_total{direction=\"sent\"} 2\n\
                    pilot_stream_traffic_bytes_total{direction=\"sent\"} 60\n";
        assert_eq!(Traffic::read(text), Some(Traffic { packets: 6.0, gossip: 400.0, streams: 60.0 }));
        assert_eq!(Traffic::read("# EOF\n"), None);
    }
}
