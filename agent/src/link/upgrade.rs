//! From a dialled connection to an open WebSocket with the agent's token shown. Refusals are told apart by their HTTP status.

use std::time::Duration;

use flotilla_proto::{Secret, limits};
use http::{HeaderValue, StatusCode, header};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error as WsError, client::IntoClientRequest, handshake::client::Request, protocol::WebSocketConfig},
};

use super::ended::Ended;
use crate::{
    dial::{Connection, Dialer},
    server_url::ServerUrl,
};

const UPGRADE_DEADLINE: Duration = Duration::from_secs(15);
/// Small: an agent is idle most of its life, and a server's own agents are many in one process.
const BUFFER: usize = 4 * 1024;

pub(super) async fn connect(dialer: &Dialer, token: &Secret) -> Result<WebSocketStream<Connection>, Ended> {
    let request = request(dialer.server(), token)?;
    let connection = dialer.connect().await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(limits::MAX_FRAME_BYTES))
        .max_frame_size(Some(limits::MAX_FRAME_BYTES));
    match timeout(UPGRADE_DEADLINE, client_async_with_config(request, connection, Some(config))).await {
        Err(_) => Err(Ended::Upgrade(format!("no answer within {} s", UPGRADE_DEADLINE.as_secs()))),
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(WsError::Http(response))) => Err(refusal(response.status())),
        Ok(Err(error)) => Err(Ended::Upgrade(error.to_string())),
    }
}

fn request(server: &ServerUrl, token: &Secret) -> Result<Request, Ended> {
    let unusable = |e: &dyn std::fmt::Display| Ended::Upgrade(e.to_string());
    let mut request = server.websocket("/agent/ws").into_client_request().map_err(|e| unusable(&e))?;
    let bearer = Secret::new(format!("Bearer {}", token.expose()));
    let mut bearer = HeaderValue::from_str(bearer.expose())
        .map_err(|_| unusable(&"the agent's token holds characters that no token has: enrol anew with --replace"))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let agent = HeaderValue::from_static(concat!("flotilla-agent/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    Ok(request)
}

fn refusal(status: StatusCode) -> Ended {
    match status {
        StatusCode::UNAUTHORIZED => Ended::Unauthorized,
        StatusCode::NOT_FOUND => {
            Ended::Upgrade(format!("it said {status}: is that address a Flotilla server, and its path right?"))
        }
        status if status.is_redirection() => {
            Ended::Upgrade(format!("it said {status}: enrol with the address that it redirects to"))
        }
        status => Ended::Upgrade(format!("it said {status}")),
    }
}
