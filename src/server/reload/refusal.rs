//! Why a new configuration is not taken over.

use thiserror::Error;

use crate::admin::Problem;
use crate::config::{ConfigError, Errors};
use crate::server::{CertificateErrors, ListErrors, StartError};

/// Why a new configuration is not taken over. Nothing has changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It has errors.
    #[error(transparent)]
    Config(#[from] Errors),
    /// The files of its certificates have.
    #[error(transparent)]
    Certificates(#[from] CertificateErrors),
    /// The files of its allow and deny lists have.
    #[error(transparent)]
    Lists(#[from] ListErrors),
    /// It cannot be put into force: an address cannot be bound, mostly.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Refusal {
    /// One a line, as the command line shows them too.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.iter().map(ConfigError::to_string).collect(),
            Self::Certificates(errors) => errors.lines().collect(),
            Self::Lists(errors) => errors.lines().collect(),
            Self::Start(error) => vec![error.to_string()],
        }
    }

    /// The same for programs.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Config(errors) => errors.iter().map(Problem::from).collect(),
            Self::Certificates(_) | Self::Lists(_) | Self::Start(_) => {
                self.lines().into_iter().map(Problem::from).collect()
            }
        }
    }
}
