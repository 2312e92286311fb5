//! Serves a worker's connection: checks the token, and passes one request on with the key.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::route::JobRoute;
use super::secret::Secret;

/// Maximum length of a request's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves the HTTP/1.1 requests of one connection of a job's worker.
pub(in crate::daemon) async fn serve_connection<S>(mut io: S, route: Arc<JobRoute>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = try_serve(&mut io, &route).await {
        tracing::debug!("{}: a request to the model failed: {error}", route.job);
    }
}

async fn try_serve(worker: &mut (impl AsyncRead + AsyncWrite + Unpin), route: &JobRoute) -> io::Result<()> {
    let Some((head, rest)) = read_head(worker).await? else { return Ok(()) };
    let upstream = &route.upstream;
    let Some(head) =
        translate_head(&head, &route.token, &upstream.address, &upstream.path, upstream.key.as_ref())
    else {
        return worker.write_all(UNAUTHORIZED).await;
    };
    let mut server = TcpStream::connect(&upstream.address).await?;
    server.set_nodelay(true)?;
    server.write_all(head.as_bytes()).await?;
    server.write_all(&rest).await?;
    copy_bidirectional(worker, &mut server).await.map(drop)
}

/// Returns the head of a request, and the beginning of its body; `None` at the end of the connection.
async fn read_head(worker: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).map_err(io::Error::other)?;
            return Ok(Some((head, body)));
        }
        if bytes.len() > MAX_HEAD || worker.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// Returns the head for the server; `None` without the job's token. The server closes the connection after its answer,
/// so a connection has one request.
fn translate_head(
    head: &str,
    token: &Secret,
    address: &str,
    path: &str,
    key: Option<&Secret>,
) -> Option<String> {
    let mut lines = head.trim_end().split("\r\n");
    let request_line = lines.next()?.replacen(" /v1", &format!(" {path}"), 1);
    let (mut is_admitted, mut translated) = (false, format!("{request_line}\r\n"));
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => is_admitted = value.trim() == format!("Bearer {}", token.expose()),
            "host" | "connection" => {}
            _ => translated.extend([line, "\r\n"]),
        }
    }
    translated.extend([&format!("host: {address}\r\nconnection: close\r\n")[..]]);
    if let Some(key) = key {
        translated.extend([&format!("authorization: Bearer {}\r\n", key.expose())[..]]);
    }
    translated.push_str("\r\n");
    is_admitted.then_some(translated)
}
