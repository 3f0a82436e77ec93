//! `[admin]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Validation;
use crate::config::key_path::KeyPath;
use crate::config::model::{Admin, AdminListen};
use crate::config::names::AdminListenOrOff;
use crate::config::types::{Secret, SecretSource};

const LISTEN: AdminListen =
    AdminListen::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901));
const STATE_FILE: &str = "loadbalancer.state";

impl Validation<'_> {
    pub(super) fn admin(&mut self) -> Option<Admin> {
        let listen = self.admin_listen()?;
        let at = KeyPath::default().key("admin").key("token");
        let raw = self.root.admin.as_deref();
        let token = match raw.and_then(|admin| admin.token.as_ref()) {
            Some(source) => self.admin_token(source, &at),
            None => None,
        };
        if let AdminListen::Tcp(address) = listen
            && !address.ip().to_canonical().is_loopback()
            && token.is_none()
        {
            self.problems.add(
                at,
                format!("is missing; {address} is not a loopback address, so that a token is required, for example \"env:LB_ADMIN_TOKEN\""),
            );
        }
        Some(Admin {
            listen,
            token,
            state_file: raw
                .and_then(|admin| admin.state_file.clone())
                .unwrap_or_else(|| STATE_FILE.into()),
        })
    }

    /// Where the admin listener is to be; `None` when it is off.
    pub(super) fn admin_listen(&self) -> Option<AdminListen> {
        match self
            .root
            .admin
            .as_deref()
            .and_then(|admin| admin.listen.clone())
        {
            Some(AdminListenOrOff(listen)) => listen,
            None => Some(LISTEN),
        }
    }

    fn admin_token(&mut self, source: &SecretSource, at: &KeyPath) -> Option<Secret> {
        let token = match source.read(self.env) {
            Ok(token) => token,
            Err(error) => {
                self.problems.add(at.clone(), error.to_string());
                return None;
            }
        };
        // What an Authorization header can carry after "Bearer ".
        let text = token.expose();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            self.problems.add(
                at.clone(),
                "is not a token; expected visible ASCII characters, at least one, and no spaces",
            );
        }
        Some(token)
    }
}
