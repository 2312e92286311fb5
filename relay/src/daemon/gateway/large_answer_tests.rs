//! Large answers pass, and the gateway's memory stays small.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::test_support::{ScriptedServer, connect, post};

/// Size of an answer in bytes, in ordinary runs and in nightly ones.
const SIZES: [u64; 2] = [128 << 20, 1 << 30];
/// Maximum growth of the test's memory: buffers of two connections and the pieces that the server sends.
const MAX_GROWTH: u64 = 32 << 20;

/// Returns the largest memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Lets a server answer with `size` bytes, and returns the number of bytes that the worker gets.
async fn pass_large_answer(size: u64, content_type: &str, beginning: &str, piece: &[u8]) -> u64 {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n{beginning}");
    let piece = piece.repeat((64 * 1024) / piece.len() + 1);
    let server = ScriptedServer::with(move |mut stream| {
        let (head, piece) = (head.clone(), piece.clone());
        async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0;
            while sent < size {
                stream.write_all(&piece).await.unwrap();
                sent += piece.len() as u64;
            }
        }
    })
    .await;
    let mut worker = connect(&server.route());
    worker.write_all(post("/v1/responses", "{}").as_bytes()).await.unwrap();
    let (mut received, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match worker.read(&mut buffer).await.unwrap() {
            0 => return received,
            length => received += length as u64,
        }
    }
}

#[tokio::test]
async fn a_large_answer_of_events_or_garbage_passes_in_bounded_memory() {
    let size = SIZES[usize::from(std::env::var_os("RELAY_TEST_NIGHTLY").is_some())];
    let event = format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{:04000}\"}}\n\n", 0);
    let garbage: Vec<u8> = (0..=255).filter(|byte| !b"\r\n\"\\".contains(byte)).collect();
    for (content_type, beginning, piece) in [
        ("text/event-stream", "", event.as_bytes()),
        ("text/event-stream", "data: {\"response\":{\"usage\":\"", &garbage),
    ] {
        let before = peak_memory();
        assert!(pass_large_answer(size, content_type, beginning, piece).await >= size);
        let growth = peak_memory().saturating_sub(before);
        assert!(growth < MAX_GROWTH, "{growth} bytes for {beginning:?}");
    }
}
