//! The host key check, and all else that a server may say of its own accord.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use russh::{
    Error as WireError,
    client::{self, ChannelOpenHandle, DisconnectReason, Session},
    keys::{Algorithm, HashAlg, PublicKeyOrCertificate},
};

use super::{
    connection::Channel,
    error::SshError,
    target::{Endpoint, HostKey},
};

/// Why the connection ended, as soon as that is known.
pub(super) type Ended = Arc<OnceLock<String>>;

/// What the library tells of a connection.
pub(super) struct Watcher {
    pub(super) at: Arc<Endpoint>,
    pub(super) pinned: Option<HostKey>,
    /// What the host showed.
    pub(super) offered: Arc<OnceLock<HostKey>>,
    pub(super) ended: Ended,
}

/// Why a connection did not come to be.
#[derive(Debug)]
pub(super) enum Trouble {
    Wire(WireError),
    HostKey(Box<SshError>),
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl client::Handler for Watcher {
    type Error = Trouble;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Trouble> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            // Certificates are not asked for.
            return Ok(false);
        };
        let offered = HostKey {
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            algorithm: Some(Algorithm::as_str(&key.algorithm()).to_owned()),
        };
        let _ = self.offered.set(offered.clone());
        let at = Arc::clone(&self.at);
        match &self.pinned {
            Some(pinned) if pinned.fingerprint == offered.fingerprint => Ok(true),
            Some(pinned) => {
                Err(Trouble::HostKey(Box::new(SshError::HostKeyChanged { at, pinned: pinned.clone(), offered })))
            }
            None => Err(Trouble::HostKey(Box::new(SshError::HostKeyUnknown { at, offered }))),
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Trouble>) -> Result<(), Trouble> {
        let why = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the server said: {}", crate::text::visible(&info.message))
            }
            DisconnectReason::Error(Trouble::Wire(WireError::KeepaliveTimeout)) => {
                "the host stopped answering".to_owned()
            }
            DisconnectReason::Error(Trouble::Wire(WireError::IO(error))) if error.kind() == io::ErrorKind::TimedOut => {
                "the network took nothing any more".to_owned()
            }
            DisconnectReason::Error(Trouble::Wire(WireError::IO(error)))
                if error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                error.to_string()
            }
            DisconnectReason::Error(_) => "the other side closed it".to_owned(),
        };
        let _ = self.ended.set(why);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }

    // What a server may want of its client: nothing. A request that is dropped is refused.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Trouble> {
        Ok(())
    }
}
